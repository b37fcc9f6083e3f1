//! The host is in the instance's availability zone.

use super::{Filter, by_profile};
use crate::{Fleet, Request};

/// See the module.
#[derive(Debug)]
pub struct AvailabilityZone;

impl Filter for AvailabilityZone {
    fn name(&self) -> &'static str {
        "availability_zone"
    }

    fn wants(&self, request: &Request) -> String {
        format!("is in {}", request.availability_zone)
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_profile(left, fleet, |profile| {
            profile.availability_zone == request.availability_zone
        });
    }
}

//! The host has enough virtual CPUs, times the allocation ratio.

use super::{Filter, by_host};
use crate::{Fleet, Request};

/// See the module.
#[derive(Debug)]
pub struct Cpu;

impl Filter for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn wants(&self, request: &Request) -> String {
        format!(
            "has {} free vCPUs in {}",
            request.vcpus, request.availability_zone
        )
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_host(left, fleet, |_, host| host.free_vcpus >= request.vcpus);
    }
}

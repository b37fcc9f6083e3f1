//! The host has enough disk, times the allocation ratio.

use super::{Filter, by_host};
use crate::{Fleet, Request};

/// See the module.
#[derive(Debug)]
pub struct Disk;

impl Filter for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn wants(&self, request: &Request) -> String {
        format!(
            "has {} GiB of free disk in {}",
            request.disk_gib, request.availability_zone
        )
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_host(left, fleet, |_, host| host.free_disk_gib >= request.disk_gib);
    }
}

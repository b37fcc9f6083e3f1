//! The host has enough memory, times the allocation ratio.

use super::{Filter, by_host};
use crate::{Fleet, Request};

/// See the module.
#[derive(Debug)]
pub struct Ram;

impl Filter for Ram {
    fn name(&self) -> &'static str {
        "ram"
    }

    fn wants(&self, request: &Request) -> String {
        format!(
            "has {} MiB of free memory in {}",
            request.memory_mib, request.availability_zone
        )
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_host(left, fleet, |_, host| host.free_memory_mib >= request.memory_mib);
    }
}

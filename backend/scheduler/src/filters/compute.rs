//! The host was heard of lately, and is ready for launches.

use super::{Filter, by_host};
use crate::{Fleet, Request};

/// The one filter whose reason may pass by itself.
pub const NAME: &str = "compute";

/// See the module.
#[derive(Debug)]
pub struct Compute;

impl Filter for Compute {
    fn name(&self) -> &'static str {
        NAME
    }

    fn wants(&self, _: &Request) -> String {
        "is ready".into()
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_host(left, fleet, |_, host| {
            host.last_seen > request.heard_after && !host.not_ready
        });
    }

    fn explain(&self, fleet: &Fleet, at: u32, request: &Request) -> Option<String> {
        let (host, id) = (fleet.hosts().get(at as usize)?, &fleet.id(at)?.0);
        if host.last_seen <= request.heard_after {
            let silent = request.silent_for(host.last_seen).as_secs();
            return Some(format!("host {id} has not been heard of for {silent} s"));
        }
        Some(format!("host {id}: {}", fleet.not_ready(at)?))
    }
}

//! The host has none of the instances that the hint `different_host` names.

use super::{Filter, by_host};
use crate::{Fleet, Request};

/// See the module.
#[derive(Debug)]
pub struct DifferentHost;

impl Filter for DifferentHost {
    fn name(&self) -> &'static str {
        "different_host"
    }

    fn applies(&self, request: &Request) -> bool {
        !request.different_host.is_empty()
    }

    fn wants(&self, _: &Request) -> String {
        "is free of the instances that the hint different_host names".into()
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_host(left, fleet, |at, _| !request.different_host.contains(at));
    }
}

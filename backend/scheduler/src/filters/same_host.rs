//! The host has one of the instances that the hint `same_host` names.

use super::{Filter, by_host};
use crate::{Fleet, Request};

/// See the module.
#[derive(Debug)]
pub struct SameHost;

impl Filter for SameHost {
    fn name(&self) -> &'static str {
        "same_host"
    }

    fn applies(&self, request: &Request) -> bool {
        request.same_host.is_some()
    }

    fn wants(&self, _: &Request) -> String {
        "has an instance that the hint same_host names".into()
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        let Some(wanted) = &request.same_host else { return };
        by_host(left, fleet, |at, _| wanted.contains(at));
    }
}

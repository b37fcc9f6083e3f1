//! The launch has not failed on the host before.

use super::{Filter, by_host};
use crate::scheduler::{Fleet, Request};

/// See the module.
#[derive(Debug)]
pub struct Retry;

impl Filter for Retry {
    fn name(&self) -> &'static str {
        "retry"
    }

    fn applies(&self, request: &Request) -> bool {
        !request.tried.is_empty()
    }

    fn wants(&self, _: &Request) -> String {
        "has not failed at it already".into()
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_host(left, fleet, |at, _| !request.tried.contains(at));
    }
}

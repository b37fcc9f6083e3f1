//! The launch has not failed on the host before.

use super::{Filter, by_host};
use crate::{Fleet, Request};

/// The filter of which nothing is said where the hosts that it removes are named anyway.
pub const NAME: &str = "retry";

/// See the module.
#[derive(Debug)]
pub struct Retry;

impl Filter for Retry {
    fn name(&self) -> &'static str {
        NAME
    }

    fn applies(&self, request: &Request) -> bool {
        !request.tried.is_empty()
    }

    fn wants(&self, _: &Request) -> String {
        "is left that has not failed at it".into()
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_host(left, fleet, |at, _| !request.tried.contains(at));
    }
}

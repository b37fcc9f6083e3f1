//! The host was heard of lately.

use super::{Filter, by_host};
use crate::scheduler::{Fleet, Request};

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
        "is alive".into()
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_host(left, fleet, |_, host| host.last_seen > request.heard_after);
    }
}

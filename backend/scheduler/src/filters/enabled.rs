//! The operator has not disabled the host.

use super::{Filter, by_host};
use crate::{Fleet, Request};

/// See the module.
#[derive(Debug)]
pub struct Enabled;

impl Filter for Enabled {
    fn name(&self) -> &'static str {
        "enabled"
    }

    fn wants(&self, _: &Request) -> String {
        "is enabled".into()
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, _: &Request) {
        by_host(left, fleet, |_, host| host.enabled);
    }
}

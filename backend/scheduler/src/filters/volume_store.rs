//! The host reaches the store that the instance's volumes are in, where hosts share that. What is in files of a host asks
//! for nothing but its disk.

use super::{Filter, by_host};
use crate::{Fleet, Request};

/// Its name.
pub const NAME: &str = "volume_store";

/// See the module.
#[derive(Debug)]
pub struct VolumeStore;

impl Filter for VolumeStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn applies(&self, request: &Request) -> bool {
        request.needs_pool
    }

    fn wants(&self, _: &Request) -> String {
        "reaches the store of its volumes".into()
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, _: &Request) {
        by_host(left, fleet, |_, host| host.reaches_pool);
    }
}

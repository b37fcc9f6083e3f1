//! Free disk.

use super::Weigher;
use crate::{HostState, Multipliers, Request};

/// See the module.
#[derive(Debug)]
pub struct Disk;

impl Weigher for Disk {
    fn multiplier(&self, multipliers: &Multipliers) -> f64 {
        multipliers.disk
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
    fn weight(&self, _: u32, host: &HostState, _: &Request) -> f64 {
        host.free_disk_gib as f64
    }
}

//! Free virtual CPUs.

use super::Weigher;
use crate::{HostState, Multipliers, Request};

/// See the module.
#[derive(Debug)]
pub struct Cpu;

impl Weigher for Cpu {
    fn multiplier(&self, multipliers: &Multipliers) -> f64 {
        multipliers.cpu
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
    fn weight(&self, _: u32, host: &HostState, _: &Request) -> f64 {
        host.free_vcpus as f64
    }
}

//! Free memory: a positive multiplier spreads instances, a negative one stacks them.

use super::Weigher;
use crate::{HostState, Multipliers, Request};

/// See the module.
#[derive(Debug)]
pub struct Ram;

impl Weigher for Ram {
    fn multiplier(&self, multipliers: &Multipliers) -> f64 {
        multipliers.ram
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
    fn weight(&self, _: u32, host: &HostState, _: &Request) -> f64 {
        host.free_memory_mib as f64
    }
}

//! Spreads instances: the more free memory, the better.

use crate::scheduler::HostState;

/// Free memory in MiB.
#[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
pub fn weight(host: &HostState) -> f64 {
    host.free_memory_mib as f64
}

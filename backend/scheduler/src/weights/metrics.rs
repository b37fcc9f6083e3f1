//! The weighed sum of the host's metrics, by the configured ratios.

use super::Weigher;
use crate::{HostState, Multipliers, Request};

/// See the module.
#[derive(Debug)]
pub struct Metrics;

impl Weigher for Metrics {
    fn multiplier(&self, multipliers: &Multipliers) -> f64 {
        multipliers.metrics
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
    fn weight(&self, _: u32, host: &HostState, _: &Request) -> f64 {
        host.metrics
    }
}

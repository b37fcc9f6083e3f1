//! Instances that are being launched on the host: its default multiplier is negative, for hosts with less to
//! do.

use super::Weigher;
use crate::{HostState, Multipliers, Request};

/// See the module.
#[derive(Debug)]
pub struct IoOps;

impl Weigher for IoOps {
    fn multiplier(&self, multipliers: &Multipliers) -> f64 {
        multipliers.io_ops
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
    fn weight(&self, _: u32, host: &HostState, _: &Request) -> f64 {
        host.io_ops as f64
    }
}

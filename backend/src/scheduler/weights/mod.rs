//! Weighers: each says how good a host is; the sum decides the order.

pub mod ram;

use super::HostState;

/// The weight of a host: more is better.
#[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
pub fn total(host: &HostState) -> f64 {
    ram::weight(host)
}

//! Filters: each removes hosts that can't take an instance. One small file each, listed in order.

pub mod availability_zone;
pub mod compute;
pub mod cpu;
pub mod disk;
pub mod enabled;
pub mod ram;

use super::{HostState, Request};

/// A filter.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// The name in configuration.
    pub name: &'static str,
    /// Whether a host can take it.
    pub passes: fn(&HostState, &Request) -> bool,
    /// What the filter wants, to be read after "no host": "has 8 free vCPUs in us-east-1a".
    pub wants: fn(&Request) -> String,
}

/// The filters in the order in which they run.
pub const ENABLED: [Filter; 6] = [
    availability_zone::FILTER,
    enabled::FILTER,
    compute::FILTER,
    cpu::FILTER,
    ram::FILTER,
    disk::FILTER,
];

//! Filters: each removes hosts that can't take an instance. One small file each.

pub mod aggregate_instance_extra_specs;
pub mod aggregate_multi_tenancy_isolation;
pub mod availability_zone;
pub mod compute;
pub mod compute_capabilities;
pub mod cpu;
pub mod different_host;
pub mod disk;
pub mod enabled;
pub mod image_properties;
pub mod ram;
pub mod retry;
pub mod same_host;
pub mod server_group_affinity;
pub mod server_group_anti_affinity;
pub mod volume_store;

use std::fmt;

use super::{Fleet, HostState, Profile, Request};

/// A filter.
pub trait Filter: Sync {
    /// The name in configuration.
    fn name(&self) -> &'static str;

    /// Whether it could remove any host for this request: one that could not is not run.
    fn applies(&self, _request: &Request) -> bool {
        true
    }

    /// What the filter wants, to be read after "no host": "has 8 free vCPUs in us-east-1a". Tenants read it.
    fn wants(&self, request: &Request) -> String;

    /// What is the matter with a host that the filter has removed, where that is more than what the filter wants.
    /// Tenants read it too, before anything else.
    fn explain(&self, _fleet: &Fleet, _at: u32, _request: &Request) -> Option<String> {
        None
    }

    /// Leaves the hosts that pass: [`by_host`] or [`by_profile`] with the condition.
    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request);
}

impl fmt::Debug for dyn Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Leaves the hosts whose numbers pass. The loop is compiled for each filter.
#[inline]
pub fn by_host(left: &mut Vec<u32>, fleet: &Fleet, passes: impl Fn(u32, &HostState) -> bool) {
    let hosts = fleet.hosts();
    left.retain(|at| hosts.get(*at as usize).is_some_and(|host| passes(*at, host)));
}

/// Leaves the hosts whose profile passes; each profile is looked at once. There are few, and mostly all of them pass:
/// then no host is looked at.
#[inline]
pub fn by_profile(left: &mut Vec<u32>, fleet: &Fleet, passes: impl Fn(&Profile) -> bool) {
    let (hosts, profiles) = (fleet.hosts(), fleet.profiles());
    if left.len() < profiles.len() {
        left.retain(|at| passes(&profiles[hosts[*at as usize].profile as usize]));
        return;
    }
    let pass: Vec<bool> = profiles.iter().map(passes).collect();
    if pass.contains(&false) {
        left.retain(|at| pass[hosts[*at as usize].profile as usize]);
    }
}

/// Every filter.
pub const ALL: [&dyn Filter; 16] = [
    &retry::Retry,
    &availability_zone::AvailabilityZone,
    &enabled::Enabled,
    &compute::Compute,
    &cpu::Cpu,
    &ram::Ram,
    &disk::Disk,
    &volume_store::VolumeStore,
    &compute_capabilities::ComputeCapabilities,
    &image_properties::ImageProperties,
    &aggregate_multi_tenancy_isolation::AggregateMultiTenancyIsolation,
    &server_group_anti_affinity::ServerGroupAntiAffinity,
    &server_group_affinity::ServerGroupAffinity,
    &different_host::DifferentHost,
    &same_host::SameHost,
    &aggregate_instance_extra_specs::AggregateInstanceExtraSpecs,
];

/// The filters that run where nothing else is configured, in this order: the cheap ones and those with the
/// clearest reason first. `aggregate_instance_extra_specs` is not among them, as it is not in Nova: it
/// takes extra specifications without a scope for its own.
pub const DEFAULT: [&dyn Filter; 15] = [
    ALL[0], ALL[1], ALL[2], ALL[3], ALL[4], ALL[5], ALL[6], ALL[7], ALL[8], ALL[9], ALL[10], ALL[11],
    ALL[12], ALL[13], ALL[14],
];

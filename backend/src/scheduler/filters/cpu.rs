//! The host has enough virtual CPUs, times the allocation ratio.

use super::Filter;

/// See the module.
pub const FILTER: Filter = Filter {
    name: "cpu",
    passes: |host, request| host.free_vcpus >= request.vcpus,
    wants: |request| {
        format!(
            "has {} free vCPUs in {}",
            request.vcpus, request.availability_zone
        )
    },
};

//! The host has enough memory, times the allocation ratio.

use super::Filter;

/// See the module.
pub const FILTER: Filter = Filter {
    name: "ram",
    passes: |host, request| host.free_memory_mib >= request.memory_mib,
    wants: |request| {
        format!(
            "has {} MiB of free memory in {}",
            request.memory_mib, request.availability_zone
        )
    },
};

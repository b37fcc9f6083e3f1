//! The host has enough disk, times the allocation ratio.

use super::Filter;

/// See the module.
pub const FILTER: Filter = Filter {
    name: "disk",
    passes: |host, request| host.free_disk_gib >= request.disk_gib,
    wants: |request| {
        format!(
            "has {} GiB of free disk in {}",
            request.disk_gib, request.availability_zone
        )
    },
};

//! The host is in the instance's availability zone.

use super::Filter;

/// See the module.
pub const FILTER: Filter = Filter {
    name: "availability_zone",
    passes: |host, request| host.availability_zone == request.availability_zone,
    wants: |request| format!("is in {}", request.availability_zone),
};

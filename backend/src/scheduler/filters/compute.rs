//! The host was heard of lately.

use super::Filter;

/// The reason that may pass by itself.
pub const SILENT: &str = "is alive";

/// See the module.
pub const FILTER: Filter = Filter {
    name: "compute",
    passes: |host, _| host.alive,
    wants: |_| SILENT.into(),
};

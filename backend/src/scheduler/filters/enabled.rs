//! The operator has not disabled the host.

use super::Filter;

/// See the module.
pub const FILTER: Filter = Filter {
    name: "enabled",
    passes: |host, _| host.enabled,
    wants: |_| "is enabled".into(),
};

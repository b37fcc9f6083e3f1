//! Instance types: what an instance of a type is given. The catalogue is data (a table of the
//! database, editable by the operator); this is one row of it.

use serde::{Deserialize, Serialize};

/// One instance type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceType {
    /// The name, `family.size`.
    pub name: String,
    /// Virtual CPUs, at least 1.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Offered to new launches; a retired type is still described.
    pub offered: bool,
}

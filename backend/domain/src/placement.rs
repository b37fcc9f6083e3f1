//! Placement policies: how the members of a group are to be placed on hosts.

use crate::named;

named! {
    /// How a placement group's instances are to be placed, in EC2's terms.
    Strategy {
        /// All members on one host.
        Cluster = "cluster",
        /// Each member on a host of its own.
        Spread = "spread",
        /// No host in two partitions.
        Partition = "partition",
    }
}

named! {
    /// What the members of a spread group are kept apart by, in EC2's terms.
    SpreadLevel {
        Host = "host",
    }
}

/// The policy of a server group, Nova's, and EC2's partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// All members on one host (a placement group's `cluster`).
    Affinity,
    /// Each member on a host of its own (`spread`).
    AntiAffinity,
    /// The same, as far as it can be done.
    SoftAffinity,
    /// The same, as far as it can be done.
    SoftAntiAffinity,
    /// No host in two partitions.
    Partition(u32),
}

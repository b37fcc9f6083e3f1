//! Placement policies: how the members of a group are to be placed on hosts.

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
    Partition(i64),
}

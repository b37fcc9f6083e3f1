//! Counts of what came of guests' agents that were asked to freeze file systems for copies of disks. A driver has them;
//! the process's metrics tell them.

/// What came of it since the driver's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quiesced {
    /// Copies that were begun while the guest's file systems were frozen.
    pub frozen: u64,
    /// Copies that were begun without that, though the guest has an agent: it did not answer, or it refused.
    pub failed: u64,
    /// Guests that may be frozen still, since their agents did not answer when they were to thaw.
    pub left: usize,
}

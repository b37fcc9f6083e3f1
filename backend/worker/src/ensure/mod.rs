//! Reconciliation of an instance's devices: what the specification names is compared with what the host has, and
//! only the difference is made. The command `run` calls it, for a guest that is not there and for one that runs.

pub(crate) mod disks;
mod nics;

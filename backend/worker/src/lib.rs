//! The worker, or host agent: it brings one host to its desired state, and reports the actual one. It takes
//! commands from the bus, works through the hypervisor and the host network, and knows nothing of the
//! database: what it remembers are files of its own, so that guests go on while it is away and are found
//! again.

mod admission;
mod alarms;
mod blocking;
mod ceph;
mod config;
pub mod console;
mod counters;
pub mod disks;
mod document;
mod ensure;
mod failure;
mod files;
pub mod image_cache;
mod intake;
mod inventory;
mod kept;
mod keys;
mod layout;
mod metrics;
pub mod network;
mod null_device;
mod places;
mod policy;
mod policy_file;
mod pool;
mod program;
mod prune;
mod qcow2;
mod qemu_img;
mod qemu_nbd;
mod rbd;
mod reaching;
mod readiness;
mod record;
pub mod remote;
mod report;
mod restore;
mod retry;
mod slots;
pub mod snapshots;
mod steps;
mod stores;
mod tasks;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tombstones;
mod uids;
mod volumes;
mod vpcs;
mod worker;
mod writers;

// Async functions that others await are compiled here, once (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;

pub use blocking::{BLOCKING_THREADS, COPYING_THREADS};
pub use ceph::{Ceph, guests_config};
pub use config::{MAX_COPIES, MetadataSink, WorkerConfig, WorkerDeps, WorkerError};
pub use counters::Counters;
pub use ensure::Changes;
pub use files::{DiskFiles, HostFiles, Log, MemoryDisks, MemoryFiles};
pub use inventory::{HostObject, ObjectKind, inventory};
pub use kept::{Kept, KeptInstance};
pub use metrics::{FixedMetrics, MetricsSource, ProcMetrics};
pub use pool::{Pool, volume_named};
pub use prune::UnusedImages;
pub use rbd::Rbd;
pub use tasks::{Free, Task, Tasks};
pub use worker::Worker;

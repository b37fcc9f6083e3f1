//! The worker, or host agent: it brings one host to its desired state, and reports the actual one. It takes
//! commands from the bus, works through the hypervisor and the host network, and knows nothing of the
//! database: what it remembers are files of its own, so that guests go on while it is away and are found
//! again.

mod admission;
mod alarms;
mod blocking;
mod config;
pub mod console;
pub mod disks;
mod ensure;
mod failure;
mod files;
pub mod image_cache;
mod inventory;
mod metrics;
pub mod network;
mod null_device;
mod policy;
mod policy_file;
mod prune;
mod qemu_img;
mod readiness;
mod record;
mod report;
mod restore;
mod retry;
mod slots;
mod steps;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tombstones;
mod uids;
mod volumes;
mod vpcs;
mod worker;

// Async functions that others await are compiled here, once (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;

/// What a worker decides by, pure: for the simulator.
pub mod decisions {
    pub use cumulet_hypervisor::{Device, DeviceKey, Devices, Diagnosis, DomainNic, DomainSpec};

    pub use crate::{
        admission::{Verdict, judge},
        ensure::{Changes, changes, domain_disks},
        policy::merge,
        readiness::{Measurement, judge as judge_readiness},
        record::{CommandHeader, CommandKind, Record},
        retry::{PAUSE, goes_on},
        tombstones::Tombstone,
    };
}

pub use blocking::BLOCKING_THREADS;
pub use config::{MetadataSink, WorkerConfig, WorkerDeps, WorkerError};
pub use inventory::{HostObject, ObjectKind, inventory};
pub use metrics::{FixedMetrics, MetricsSource, ProcMetrics};
pub use prune::UnusedImages;
pub use worker::{Counters, Worker};

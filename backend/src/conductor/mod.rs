//! The conductor: it drives every instance to its desired state. The journal's engine runs operations' steps,
//! commands go to hosts, reports come back. The database decides everything; messages only wake and command.
//!
//! - `operations`: what can be done with an instance that takes long, one file each, and the list of them.
//! - `deadline`: when an operation's time is over.
//! - `belongs`: whether what a report speaks of is its host's.
//! - `heartbeat`: what hosts say of themselves.
//! - `intake`: what one host may report, and whose reports are next.
//! - `full_report`: all that a host has, compared with rows.
//! - `reports`: what hosts say, applied to rows; an operation knows itself what an answer to it means.
//! - `changes`: what guests do by themselves.
//! - `sync`: keeps hosts' network policies and metadata at what the rows say.
//! - `sweep`: deletes what has had its time.
//! - `host_specs`: rows into what a host needs.

mod belongs;
mod changes;
mod deadline;
mod full_report;
mod heartbeat;
mod host_disks;
mod host_specs;
mod intake;
pub mod operations;
mod release;
mod reports;
mod sweep;
mod sync;
mod tunnel;
mod wake;

use std::sync::Arc;

use cumulet_bus::Bus;
use cumulet_certs::Sealer;
use cumulet_domain::{Error, Result, crash, time::Clock};
use tokio::task::JoinSet;

use crate::{
    api::SharedRng,
    boxed,
    journal::{self, engine},
    retention::Retention,
    scheduler::Scheduler,
    store::Store,
};

pub use operations::{counts, crash_points};
pub use wake::Wake;

/// What the conductor is told of the cloud.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For instance `us-east-1`.
    pub region: String,
    /// Names this process in leases; another one takes over when they expire.
    pub owner: String,
    /// Claimable vCPUs for each of a host's.
    pub cpu_allocation_ratio: f64,
    /// Claimable memory for each of a host's.
    pub ram_allocation_ratio: f64,
    /// Claimable disk for each of a host's.
    pub disk_allocation_ratio: f64,
    /// How long what has ended is kept.
    pub retention: Retention,
    /// The hosts are in this process, so that the addresses that they tell are the operator's own configuration. Of
    /// those elsewhere the operator confirms them.
    pub hosts_are_here: bool,
}

/// What of the conductor's work a process does; one that does nothing of it passes its wake-ups on to those
/// that do. Several processes may do the same: leases keep them from one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duties {
    /// Finds and claims hosts (the role `scheduler`).
    pub place: bool,
    /// Everything else: commands, reports, networks, metadata, what has had its time (`conductor`).
    pub drive: bool,
}

impl Duties {
    /// The whole of it.
    pub const ALL: Duties = Duties {
        place: true,
        drive: true,
    };
}

/// The conductor's parts, shared by its tasks.
#[derive(Clone)]
pub struct Conductor {
    store: Store,
    /// Opens what hosts are told and the database keeps sealed.
    sealer: Arc<Sealer>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    wake: Wake,
    rng: SharedRng,
    deadlines: deadline::DeadlineClock,
    settings: Arc<Settings>,
    scheduler: Scheduler,
    dropped: intake::Dropped,
}

impl std::fmt::Debug for Conductor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conductor")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Conductor {
    /// A conductor over these parts. `wake` is the one that the API wakes.
    pub fn new(
        store: Store,
        sealer: Arc<Sealer>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        wake: Wake,
        settings: Settings,
    ) -> Self {
        Conductor {
            store,
            sealer,
            bus,
            clock,
            wake,
            rng: SharedRng::system(),
            deadlines: deadline::DeadlineClock::default(),
            settings: Arc::new(settings),
            scheduler: Scheduler::default(),
            dropped: intake::Dropped::default(),
        }
    }

    /// The same with a configured scheduler.
    #[must_use]
    pub fn with_scheduler(self, scheduler: Scheduler) -> Self {
        Conductor { scheduler, ..self }
    }

    /// The same conductor with this randomness in place of the system's.
    #[must_use]
    pub fn with_rng(self, rng: SharedRng) -> Self {
        Conductor { rng, ..self }
    }

    /// Reports that were dropped since the start, because their hosts report more than any does.
    pub fn dropped_reports(&self) -> u64 {
        self.dropped.count()
    }

    /// Runs until `shutdown` says so. What is under way stays in the journal.
    ///
    /// # Errors
    /// When the bus can't be listened to.
    #[boxed]
    pub async fn run(self, duties: Duties, mut shutdown: tokio::sync::watch::Receiver<bool>) -> Result<()> {
        let mut tasks = JoinSet::new();
        let drives = duties.place || duties.drive;
        if duties != Duties::ALL {
            // Those who wake and those who are woken are not all in this process.
            tasks.spawn(self.wake.clone().forward(self.bus.clone()));
        }
        if duties != Duties::ALL && drives {
            let wakeups = self.bus.wakeups().await;
            let wakeups = wakeups.map_err(|error| Error::Unavailable(error.to_string()))?;
            tasks.spawn(self.wake.clone().listen(wakeups));
        }
        if duties.drive {
            let reports = reports::listen(&self).await?;
            tasks.spawn(reports::run(self.clone(), reports));
        }
        if drives {
            journal::adopt(&self.store, &self.settings.owner, self.clock.now()).await?;
            crash::up("adopted");
            tasks.spawn(engine::run(self.clone(), operations::steps_of(duties)));
        }
        if duties.drive {
            tasks.spawn(sync::run(self.clone()));
            tasks.spawn(sweep::run(self.clone()));
        }
        // The wait ends when the flag is set or its sender is gone; both mean: stop.
        drop(shutdown.wait_for(|stop| *stop).await);
        tasks.shutdown().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

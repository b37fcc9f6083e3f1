//! The driver of operations: what they work with, whichever process runs them.

use std::{sync::Arc, time::Duration};

use cumulet_bus::Bus;
use cumulet_certs::Sealer;
use cumulet_core::{Wake, retention::Retention};
use cumulet_domain::{
    id::HostId,
    message::{Action, Command, Outcome, SnapshotOutcome, VolumeOutcome},
    rng::SharedRng,
    time::{Clock, Timestamp},
};
use cumulet_scheduler::Scheduler;
use cumulet_store::{Store, entity::instance};

use crate::{boxed, deadline::DeadlineClock, told::Told};

/// How long until something that no operation commands and that was not confirmed is sent again.
pub const RESEND: Duration = Duration::from_secs(5);

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

/// What is heard of a command.
#[derive(Debug)]
pub enum Heard {
    /// Of one to an instance.
    Instance(Box<OfInstance>),
    /// Of one about a volume that no instance has.
    Volume(VolumeOutcome),
    /// Of one to take snapshots, from this host.
    Snapshots(HostId, SnapshotOutcome),
}

/// A host's answer, and the row of the instance that it is about, as it was then.
#[derive(Debug)]
pub struct OfInstance {
    /// Who answers.
    pub host: HostId,
    /// When, by the host's clock.
    pub at: Timestamp,
    /// What it says.
    pub outcome: Outcome,
    /// The instance.
    pub row: instance::Model,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    /// The database.
    pub store: Store,
    /// Opens what hosts are told and the database keeps sealed.
    pub sealer: Arc<Sealer>,
    /// The way to hosts.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Wakes the engine, and is what it waits for.
    pub wake: Wake,
    /// Randomness.
    pub rng: SharedRng,
    /// What deadlines are judged by.
    pub deadlines: DeadlineClock,
    /// What is configured.
    pub settings: Arc<Settings>,
    /// Places instances.
    pub scheduler: Scheduler,
    /// Policies that commands have taken along.
    pub told: Told,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver over these parts. `wake` is the one that the API wakes.
    pub fn new(
        store: Store,
        sealer: Arc<Sealer>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        wake: Wake,
        settings: Settings,
    ) -> Self {
        Driver {
            store,
            sealer,
            bus,
            clock,
            wake,
            rng: SharedRng::system(),
            deadlines: DeadlineClock::default(),
            settings: Arc::new(settings),
            scheduler: Scheduler::default(),
            told: Told::default(),
        }
    }

    /// The same with a configured scheduler.
    #[must_use]
    pub fn with_scheduler(self, scheduler: Scheduler) -> Self {
        Driver { scheduler, ..self }
    }

    /// The same with this randomness in place of the system's.
    #[must_use]
    pub fn with_rng(self, rng: SharedRng) -> Self {
        Driver { rng, ..self }
    }

    /// Commands what belongs to no operation. A message that is lost is sent again when it is missed again.
    #[boxed]
    pub async fn send(&self, host: &HostId, action: Action, now: Timestamp) {
        let command = Command {
            operation: None,
            deadline: now.after(RESEND * 2),
            action,
            keys: Vec::new(),
            storage: None,
        };
        if let Err(error) = self.bus.send(host, command).await {
            tracing::debug!(%host, %error, "not handed over; sent again later");
        }
    }
}

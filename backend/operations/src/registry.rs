//! The registry of operations, and what the journal's engine asks of their driver.

use cumulet_domain::{
    crash::{self, Role},
    id::{OperationId, marker},
    time::Timestamp,
};
use cumulet_journal::{Context, Of, Registry};
use cumulet_store::Store;
use futures::future::BoxFuture;

use crate::{
    attach_volume::AttachVolume,
    create_image::CreateImage,
    create_snapshot::CreateSnapshot,
    delete_volume::DeleteVolume,
    detach_volume::DetachVolume,
    driver::{Driver, Heard},
    launch::Launch,
    modify_volume::ModifyVolume,
    reboot::Reboot,
    run_again::RunAgain,
    start::Start,
    stop::Stop,
    terminate::Terminate,
};

/// Every operation.
pub static REGISTRY: Registry<Driver> = Registry::new(&[
    &Of::<Launch>::new(),
    &Of::<Start>::new(),
    &Of::<Stop>::new(),
    &Of::<Reboot>::new(),
    &Of::<Terminate>::new(),
    &Of::<AttachVolume>::new(),
    &Of::<DetachVolume>::new(),
    &Of::<ModifyVolume>::new(),
    &Of::<DeleteVolume>::new(),
    &Of::<CreateSnapshot>::new(),
    &Of::<CreateImage>::new(),
    &Of::<RunAgain>::new(),
]);

impl Context for Driver {
    type Heard = Heard;

    fn registry() -> &'static Registry<Self> {
        &REGISTRY
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn owner(&self) -> &str {
        &self.settings.owner
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn by(&self, now: Timestamp) -> Timestamp {
        self.deadlines.by(now)
    }

    fn next_id(&self) -> OperationId {
        self.rng.id::<marker::Operation>()
    }

    fn wake(&self) {
        self.wake.now();
    }

    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.wake.engine())
    }
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

/// The steps that a process with these duties runs.
pub fn steps_of(duties: Duties) -> Vec<&'static str> {
    let mut roles = Vec::new();
    if duties.place {
        roles.push(Role::Scheduler);
    }
    if duties.drive {
        roles.push(Role::Conductor);
    }
    REGISTRY.steps_of(&roles)
}

/// Every crash point of every operation, in order. From then on this process knows their names.
pub fn crash_points() -> Vec<crash::Point> {
    crash::declare(|| REGISTRY.passages());
    crash::points()
}

/// What has come to pass in this process, by operation and step.
pub fn counts() -> &'static cumulet_journal::Counts {
    REGISTRY.counts()
}

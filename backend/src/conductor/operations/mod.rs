//! The operations on instances and volumes, one file each: its steps, its deadline, what its end changes and what it says to a
//! report. `REGISTRY` is the list of them; the journal's engine and the reports drive what is in it.
//!
//! - `launch`, `start`, `stop`, `reboot`, `terminate`: the operations.
//! - `driven`: what those have in common that a host carries out.
//! - `round`: what the steps of one round share.
//! - `volumes`: `attach-volume`, `detach-volume`, `delete-volume`, whose subject is a volume.
//! - `steps`: steps that several have: `place`, `command`, `clear`, and what follows a failure.

mod driven;
mod launch;
#[cfg(test)]
mod races;
mod reboot;
mod round;
mod start;
pub(super) mod steps;
mod stop;
mod terminate;
#[cfg(test)]
mod tests;
pub(super) mod volumes;

use cumulet_domain::{
    ResourceKind, Result, crash,
    crash::Role,
    id::{HostId, InstanceId, OperationId, marker},
    message::{Outcome, VolumeOutcome},
    time::Timestamp,
};
use futures::future::BoxFuture;
use sea_orm::DatabaseTransaction;

use super::{Conductor, Duties};
use crate::{
    entity::{instance, operation},
    journal::{Context, Of, Registry, Resource, Target},
    store::{Store, instances},
};

use driven::Driven;
pub use launch::{FailedHost, Hints, Launch, LaunchState};
pub use reboot::Reboot;
use round::Round;
pub use start::Start;
pub use stop::{Stop, StopState};
pub use terminate::{Terminate, TerminateState};
pub(crate) use volumes::target as volume_target;
pub use volumes::{AttachVolume, DeleteVolume, DetachVolume};

/// Every operation.
pub(super) static REGISTRY: Registry<Conductor> = Registry::new(&[
    &Of::<Launch>::new(),
    &Of::<Start>::new(),
    &Of::<Stop>::new(),
    &Of::<Reboot>::new(),
    &Of::<Terminate>::new(),
    &Of::<AttachVolume>::new(),
    &Of::<DetachVolume>::new(),
    &Of::<DeleteVolume>::new(),
]);

/// What is heard of a command.
#[derive(Debug)]
pub enum Heard {
    /// Of one to an instance.
    Instance(Box<OfInstance>),
    /// Of one about a volume that no instance has.
    Volume(VolumeOutcome),
}

/// A host's answer, and the row of the instance that it is about, as it was then.
#[derive(Debug)]
pub struct OfInstance {
    pub(super) host: HostId,
    pub(super) at: Timestamp,
    pub(super) outcome: Outcome,
    pub(super) row: instance::Model,
}

impl Context for Conductor {
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

/// The steps that a process with these duties runs.
pub(super) fn steps_of(duties: Duties) -> Vec<&'static str> {
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
pub fn counts() -> &'static crate::journal::Counts {
    REGISTRY.counts()
}

/// An instance, as operations have it.
pub(crate) const fn subject(instance: i64) -> Resource {
    Resource {
        kind: ResourceKind::Instance,
        id: instance,
    }
}

/// An instance's row, for an operation that carries out what it says at this generation.
pub(crate) const fn target(row: &instance::Model, generation: i64) -> Target {
    Target {
        account: row.account,
        subject: subject(row.id),
        generation,
    }
}

/// The same, as an operation's row has its subject.
pub(super) const fn instance_subject(instance: i64) -> (&'static str, i64) {
    (ResourceKind::Instance.resource_type(), instance)
}

/// The number of the instance that an operation works on.
fn instance_of(operation: &operation::Model) -> i64 {
    operation.subject().1
}

/// The same as an id.
fn id_of(operation: &operation::Model) -> InstanceId {
    InstanceId::from_db(instance_of(operation))
}

/// The lock under which operations on an instance begin and end.
async fn lock(txn: &DatabaseTransaction, operation: &operation::Model) -> Result<()> {
    instances::lock(txn, &[instance_of(operation)]).await
}

//! An operation: what it says of itself (name, steps, deadline, what it holds and supersedes), and what it does at
//! each step, when it is answered, and when it ends. One file each implements it; the engine and those who hear
//! hosts call it.

use std::time::Duration;

use cumulet_domain::{
    ResourceKind, Result,
    crash::Role,
    id::{HostId, OperationId},
    time::Timestamp,
};
use futures::future::BoxFuture;
use sea_orm::DatabaseTransaction;
use serde::{Serialize, de::DeserializeOwned};

use super::Registry;
use cumulet_store::{Store, entity::operation::Model};

/// A step, with the crash points that are passed in it, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name: in the database, where an engine runs it.
    pub name: &'static str,
    /// Who does it.
    pub role: Role,
    /// Whether an engine leases it: operations wait at such steps.
    pub is_leased: bool,
    /// Such as `leased`, `sent`; those that it shares with an earlier step are that one's.
    pub points: &'static [&'static str],
}

impl Step {
    /// A step that the engine of a role leases and runs.
    pub const fn leased(name: &'static str, role: Role, points: &'static [&'static str]) -> Self {
        Step {
            name,
            role,
            is_leased: true,
            points,
        }
    }

    /// What is done elsewhere: by a call before the operation is in the journal, on a host, on a report.
    pub const fn elsewhere(name: &'static str, role: Role, points: &'static [&'static str]) -> Self {
        Step {
            name,
            role,
            is_leased: false,
            points,
        }
    }

    /// Whether an operation is at it.
    pub fn is_of(&self, row: &Model) -> bool {
        self.is_leased && self.name == row.step
    }
}

/// A resource, as operations have it: its kind and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Which kind.
    pub kind: ResourceKind,
    /// Which one.
    pub id: i64,
}

/// The times by which a round of the engine goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Now.
    pub now: Timestamp,
    /// By this deadlines are judged.
    pub by: Timestamp,
}

/// What comes after a step that has run. It has written by itself when it is looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing in this round.
    Wait,
    /// This host is to be told, when every operation of the round has had its step.
    Tell(HostId),
}

/// Why an operation has failed for good, as those who asked for it are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For instance `Server.InternalError`.
    pub code: String,
    /// The code, a colon and an explanation.
    pub message: String,
}

/// How an operation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// All that it was for is done.
    Done,
    /// It has failed for good.
    Failed(Failure),
    /// Another operation takes its place, and what it holds.
    Superseded,
}

/// The end of an operation.
#[derive(Clone, Debug)]
pub struct End {
    /// How it ends.
    pub how: How,
    /// When.
    pub now: Timestamp,
    /// The id of the operation that follows it, if one is to.
    pub next: OperationId,
}

/// What operations work with, such as a conductor: who drives them, by which clock.
pub trait Context: Clone + Send + Sync + 'static {
    /// What is heard of an operation's command.
    type Heard: Send;

    /// All operations that are driven.
    fn registry() -> &'static Registry<Self>;

    /// The database.
    fn store(&self) -> &Store;

    /// Names this process in leases.
    fn owner(&self) -> &str;

    /// Now.
    fn now(&self) -> Timestamp;

    /// By which time deadlines are judged where it is `now`.
    fn by(&self, now: Timestamp) -> Timestamp;

    /// A new operation's id.
    fn next_id(&self) -> OperationId;

    /// There may be something to do, now.
    fn wake(&self);

    /// Returns when something may be to do.
    fn woken(&self) -> BoxFuture<'_, ()>;
}

/// What the steps of one round share: read once for all operations that are due, of all kinds that share it.
pub trait Batch<Cx: Context>: Sized + Send + Sync + 'static {
    /// Reads it.
    fn load(cx: &Cx, due: &[&Model], look: Look) -> impl Future<Output = Result<Self>> + Send;
}

/// See the module. Every step and every end may come any number of times.
pub trait Operation: Sized + Send + Sync + 'static {
    /// What it works with.
    type Cx: Context;
    /// What it carries from step to step. What an older program has written must be read, and the other way round.
    type State: Serialize + DeserializeOwned;
    /// What is read once for a round.
    type Batch: Batch<Self::Cx>;

    /// Its name: in the database, in crash points and metrics.
    const NAME: &'static str;
    /// Its steps, in the order in which they come to pass.
    const STEPS: &'static [Step];
    /// How long it may take in all before it fails with a reason.
    const DEADLINE: Duration;
    /// The operations whose place it takes where they hold what it wants. Any other one keeps it from beginning.
    const SUPERSEDES: &'static [&'static str];

    /// The step that it begins with: the first that an engine leases, where the state does not say otherwise.
    fn first(_: &Self::State) -> Option<&'static Step> {
        Self::STEPS.iter().find(|step| step.is_leased)
    }

    /// What it holds beside its subject.
    fn holds(_subject: Resource, _state: &Self::State) -> Vec<Resource> {
        Vec::new()
    }

    /// Runs the step that it is at.
    fn step(batch: &Self::Batch, row: &Model) -> impl Future<Output = Result<Next>> + Send;

    /// Tells the host what it wants of it.
    fn tell(batch: &Self::Batch, row: &Model, host: &HostId) -> impl Future<Output = Result<()>> + Send;

    /// A host has answered its command.
    fn heard(
        cx: &Self::Cx,
        row: Model,
        heard: <Self::Cx as Context>::Heard,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Takes the lock of its subject, under which operations on it begin and end (see `store::lock`).
    fn lock(txn: &DatabaseTransaction, row: &Model) -> impl Future<Output = Result<()>> + Send;

    /// What its end changes, in the transaction that ends it: success, failure, or another that takes its place.
    fn ended(txn: &DatabaseTransaction, row: &Model, end: &End) -> impl Future<Output = Result<()>> + Send;
}

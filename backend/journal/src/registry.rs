//! The registry of operations, by name: what drives them without knowing them. A program has one for each context
//! that operations work with.

use std::{
    any::{Any, TypeId},
    marker::PhantomData,
    sync::OnceLock,
    time::Duration,
};

use cumulet_domain::{
    Error, Result,
    crash::{Passage, Role},
    id::HostId,
};
use futures::future::BoxFuture;
use sea_orm::DatabaseTransaction;

use super::{Batch, Context, Counts, End, Look, Next, Operation, Step};
use cumulet_store::entity::operation::Model;

/// A batch, without its type.
pub(super) type Loaded = Box<dyn Any + Send + Sync>;

/// An operation without its types.
pub trait Kind<Cx: Context>: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Its steps.
    fn steps(&self) -> &'static [Step];
    /// How long it may take.
    fn deadline(&self) -> Duration;
    /// The names of those whose place it takes.
    fn supersedes(&self) -> &'static [&'static str];
    /// Which batch its steps need.
    fn batch(&self) -> TypeId;
    /// Reads that batch for all that are due and need it.
    fn load<'a>(&self, cx: &'a Cx, due: &'a [&'a Model], look: Look) -> BoxFuture<'a, Result<Loaded>>;
    /// Runs the step that the operation is at.
    fn step<'a>(&self, batch: &'a Loaded, row: &'a Model) -> BoxFuture<'a, Result<Next>>;
    /// Tells a host what the operation wants of it.
    fn tell<'a>(&self, batch: &'a Loaded, row: &'a Model, host: &'a HostId) -> BoxFuture<'a, Result<()>>;
    /// A host has answered the operation's command.
    fn heard<'a>(&self, cx: &'a Cx, row: Model, heard: Cx::Heard) -> BoxFuture<'a, Result<()>>;
    /// What the operation's end changes.
    fn ended<'a>(
        &self,
        txn: &'a DatabaseTransaction,
        row: &'a Model,
        end: &'a End,
    ) -> BoxFuture<'a, Result<()>>;
}

/// The operation `O`, for the registry.
#[derive(Debug)]
pub struct Of<O>(PhantomData<fn() -> O>);

impl<O> Of<O> {
    /// It.
    pub const fn new() -> Self {
        Of(PhantomData)
    }
}

impl<O> Default for Of<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: Operation> Kind<O::Cx> for Of<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn steps(&self) -> &'static [Step] {
        O::STEPS
    }

    fn deadline(&self) -> Duration {
        O::DEADLINE
    }

    fn supersedes(&self) -> &'static [&'static str] {
        O::SUPERSEDES
    }

    fn batch(&self) -> TypeId {
        TypeId::of::<O::Batch>()
    }

    fn load<'a>(&self, cx: &'a O::Cx, due: &'a [&'a Model], look: Look) -> BoxFuture<'a, Result<Loaded>> {
        Box::pin(async move { Ok(Box::new(O::Batch::load(cx, due, look).await?) as Loaded) })
    }

    fn step<'a>(&self, batch: &'a Loaded, row: &'a Model) -> BoxFuture<'a, Result<Next>> {
        Box::pin(async move {
            if !O::STEPS.iter().any(|step| step.is_of(row)) {
                let text = format!("a {} has no step {:?}", O::NAME, row.step);
                return Err(Error::Internal(text));
            }
            O::step(batch_of::<O>(batch)?, row).await
        })
    }

    fn tell<'a>(&self, batch: &'a Loaded, row: &'a Model, host: &'a HostId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { O::tell(batch_of::<O>(batch)?, row, host).await })
    }

    fn heard<'a>(
        &self,
        cx: &'a O::Cx,
        row: Model,
        heard: <O::Cx as Context>::Heard,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(O::heard(cx, row, heard))
    }

    fn ended<'a>(
        &self,
        txn: &'a DatabaseTransaction,
        row: &'a Model,
        end: &'a End,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(O::ended(txn, row, end))
    }
}

fn batch_of<O: Operation>(batch: &Loaded) -> Result<&O::Batch> {
    batch
        .downcast_ref()
        .ok_or_else(|| Error::Internal(format!("a {} was given another's batch", O::NAME)))
}

/// See the module.
pub struct Registry<Cx: Context> {
    kinds: &'static [&'static dyn Kind<Cx>],
    counts: OnceLock<Counts>,
}

impl<Cx: Context> std::fmt::Debug for Registry<Cx> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.kinds.iter().map(|kind| kind.name()))
            .finish()
    }
}

impl<Cx: Context> Registry<Cx> {
    /// These operations.
    pub const fn new(kinds: &'static [&'static dyn Kind<Cx>]) -> Self {
        Registry {
            kinds,
            counts: OnceLock::new(),
        }
    }

    /// All of them.
    pub fn kinds(&self) -> &'static [&'static dyn Kind<Cx>] {
        self.kinds
    }

    /// The one with this name; `None` where a newer program has written it.
    pub fn find(&self, name: &str) -> Option<&'static dyn Kind<Cx>> {
        self.kinds.iter().find(|kind| kind.name() == name).copied()
    }

    /// The names of the operations that have a step of this one's name.
    pub fn with(&self, step: &Step) -> Vec<&'static str> {
        let has = |kind: &&&dyn Kind<Cx>| kind.steps().iter().any(|its| its.name == step.name);
        self.kinds.iter().filter(has).map(|kind| kind.name()).collect()
    }

    /// The names of the steps that the engines of these roles lease.
    pub fn steps_of(&self, roles: &[Role]) -> Vec<&'static str> {
        let all = self.kinds.iter().flat_map(|kind| kind.steps());
        let theirs = all.filter(|step| step.is_leased && roles.contains(&step.role));
        let mut names: Vec<_> = theirs.map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The crash points of each.
    pub fn passages(&self) -> Vec<Passage> {
        let passage = |kind: &&dyn Kind<Cx>| Passage {
            operation: kind.name(),
            points: kind
                .steps()
                .iter()
                .flat_map(|step| step.points.iter().map(|point| (step.role, *point)))
                .collect(),
        };
        self.kinds.iter().map(passage).collect()
    }

    /// What has come to pass in this process.
    pub fn counts(&self) -> &Counts {
        self.counts.get_or_init(|| {
            let leased = |kind: &&'static dyn Kind<Cx>| {
                let steps = kind.steps().iter().filter(|step| step.is_leased);
                (kind.name(), steps.map(|step| step.name).collect())
            };
            Counts::of(self.kinds.iter().map(leased))
        })
    }
}

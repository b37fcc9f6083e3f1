//! Launch: it brings a new instance to `running`. Where a host fails for good it is tried on another one; where
//! there is none, the instance is terminated, with the reason.

use std::time::Duration;

use cumulet_domain::{
    Error, Result,
    crash::Role,
    id::{HostId, InstanceId},
    instance::{Event, Intent},
    message::{Action, Power},
};
use sea_orm::DatabaseTransaction;
use serde::{Deserialize, Serialize};

use super::{
    Driven, Heard, Round, Terminate, TerminateState, driven, id_of, lock,
    steps::{
        ASK, CLEAR, COMMAND, HEAR, PLACE, RECOMMAND, clear, command, fail, generation_of,
        other_host::retry_on_other_host, place,
    },
    target,
};
use crate::{
    conductor::{Conductor, release},
    entity::{instance, operation::Model},
    journal::{End, How, NewOperation, Next, Operation, Step, enqueue},
};

/// See the module.
#[derive(Debug)]
pub struct Launch;

/// What a host passes while it brings a guest up.
pub(super) const RUN: Step = Step::elsewhere(
    "run",
    Role::Host,
    &[
        "received", "begun", "metadata", "image", "disk", "tap", "defined", "firewall", "started", "done",
        "reported",
    ],
);

/// A host on which a launch has failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedHost {
    /// The host's name.
    pub host: String,
    /// What it said.
    pub failure: String,
}

/// Where an instance is to be, by instances that are there already: Nova's scheduler hints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hints {
    /// Not on the host of any of these.
    #[serde(default)]
    pub different_host: Vec<InstanceId>,
    /// On the host of one of these, where there are any.
    #[serde(default)]
    pub same_host: Vec<InstanceId>,
}

/// What a launch carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchState {
    /// Where it has failed.
    #[serde(default)]
    pub tried: Vec<FailedHost>,
    /// Where it is to be.
    #[serde(default)]
    pub hints: Hints,
}

impl Operation for Launch {
    type Cx = Conductor;
    type State = LaunchState;
    type Batch = Round;

    const NAME: &'static str = "launch";
    const STEPS: &'static [Step] = &[ASK, CLEAR, PLACE, RECOMMAND, RUN, HEAR];
    const DEADLINE: Duration = Duration::from_secs(300);
    const SUPERSEDES: &'static [&'static str] = &[];

    /// One that has failed on a host begins with clearing that one.
    fn first(state: &LaunchState) -> Option<&'static Step> {
        Some(if state.tried.is_empty() { &PLACE } else { &CLEAR })
    }

    async fn step(round: &Round, operation: &Model) -> Result<Next> {
        if CLEAR.is_of(operation) {
            clear::run(round, operation).await
        } else if PLACE.is_of(operation) {
            place::run::<Self>(round, operation).await
        } else {
            command::run::<Self>(round, operation).await
        }
    }

    async fn tell(round: &Round, operation: &Model, host: &HostId) -> Result<()> {
        let step = if CLEAR.is_of(operation) { &CLEAR } else { &COMMAND };
        command::tell::<Self>(round, operation, host, step).await
    }

    async fn heard(conductor: &Conductor, operation: Model, heard: Heard) -> Result<()> {
        if CLEAR.is_of(&operation) {
            return clear::heard(conductor, operation, heard).await;
        }
        driven::heard::<Self>(conductor, operation, heard).await
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        lock(txn, operation).await
    }

    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        let failure = match &end.how {
            How::Done => return release::running(txn, operation, end.now).await,
            How::Failed(failure) => failure,
            How::Superseded => return Ok(()),
        };
        let Some(row) = release::subject(txn, operation).await? else {
            return Ok(());
        };
        let (generation, reason) = fail(txn, &row, Event::LaunchFailed, Intent::Terminated, failure).await?;
        let (on, reason) = (target(&row, generation), Some(reason));
        let new = NewOperation::of::<Terminate>(end.next, on, &TerminateState { reason }, end.now)?;
        enqueue(txn, new).await.map(drop)
    }
}

impl Driven for Launch {
    async fn action(
        round: &Round,
        operation: &Model,
        row: &instance::Model,
        host: &HostId,
    ) -> Result<Action> {
        if CLEAR.is_of(operation) {
            return Ok(Action::Destroy {
                instance: id_of(operation),
                generation: generation_of(operation)?,
            });
        }
        run(round, row, host).await
    }

    fn is_reached(power: Power) -> bool {
        power == Power::On
    }

    async fn failed(conductor: &Conductor, operation: Model, _: &HostId, failure: String) -> Result<()> {
        retry_on_other_host(conductor, operation, failure).await
    }
}

/// The whole specification, with the VPC's policy on the host.
pub(super) async fn run(round: &Round, row: &instance::Model, host: &HostId) -> Result<Action> {
    let spec = round.specs.get(row.id).ok_or_else(|| {
        let id = InstanceId::from_db(row.id);
        Error::Internal(format!("{id} has no interface, image or subnet to launch with"))
    })?;
    let conn = round.conductor.store.read();
    let policy = round.policies.get(conn, host, row.vpc).await?;
    Ok(Action::Run {
        spec: Box::new(spec),
        policy,
    })
}

//! Start: it brings a stopped instance to `running`, on the host that has its disk. Where that fails, the instance
//! is `stopped` again, and what the host has begun is stopped.

use std::time::Duration;

use cumulet_domain::{
    Result,
    id::HostId,
    instance::{Event, Intent, State, transition},
    message::{Action, Power},
};
use sea_orm::DatabaseTransaction;
use serde::{Deserialize, Serialize};

use super::{
    Driven, Heard, Round, Stop, StopState, driven, instance_of,
    launch::{RUN, run},
    lock,
    steps::{ASK, COMMAND, HEAR, PLACE, RECOMMAND, command, fail, place},
    target,
};
use crate::{
    conductor::{Conductor, release},
    entity::{instance, operation::Model},
    journal::{End, How, NewOperation, Next, Operation, Step, enqueue},
    store::attachments,
};

/// See the module.
#[derive(Debug)]
pub struct Start;

/// What an operation carries that needs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

impl Operation for Start {
    type Cx = Conductor;
    type State = Nothing;
    type Batch = Round;

    const NAME: &'static str = "start";
    const STEPS: &'static [Step] = &[ASK, PLACE, RECOMMAND, RUN, HEAR];
    const DEADLINE: Duration = Duration::from_secs(300);
    /// What is left of a start that failed, and of a guest that ran by itself, is being stopped.
    const SUPERSEDES: &'static [&'static str] = &[Stop::NAME];

    async fn step(round: &Round, operation: &Model) -> Result<Next> {
        if PLACE.is_of(operation) {
            place::run::<Self>(round, operation).await
        } else {
            command::run::<Self>(round, operation).await
        }
    }

    async fn tell(round: &Round, operation: &Model, host: &HostId) -> Result<()> {
        command::tell::<Self>(round, operation, host, &COMMAND).await
    }

    async fn heard(conductor: &Conductor, operation: Model, heard: Heard) -> Result<()> {
        driven::heard::<Self>(conductor, operation, heard).await
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        lock(txn, operation).await
    }

    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        let failure = match &end.how {
            How::Done => {
                release::running(txn, operation, end.now).await?;
                return attachments::all_made(txn, instance_of(operation), end.now).await;
            }
            How::Failed(failure) => failure,
            How::Superseded => return Ok(()),
        };
        let Some(row) = release::subject(txn, operation).await? else {
            return Ok(());
        };
        // Whatever the host has begun is stopped by a command of a higher generation, after which the claim is
        // given back.
        debug_assert_eq!(transition(State::Stopped, Event::Halted), Ok(State::Stopped));
        let (generation, reason) = fail(txn, &row, Event::StartFailed, Intent::Stopped, failure).await?;
        if row.claimed == 0 {
            return Ok(());
        }
        let state = StopState {
            force: true,
            reason: Some(reason),
        };
        let new = NewOperation::of::<Stop>(end.next, target(&row, generation), &state, end.now)?;
        enqueue(txn, new).await.map(drop)
    }
}

impl Driven for Start {
    async fn action(round: &Round, _: &Model, row: &instance::Model, host: &HostId) -> Result<Action> {
        run(round, row, host).await
    }

    fn is_reached(power: Power) -> bool {
        power == Power::On
    }
}

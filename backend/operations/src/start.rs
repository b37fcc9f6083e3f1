//! Start: it brings a stopped instance to `running`, on the host that has its disk. Where that fails, the instance
//! is `stopped` again, and what the host has begun is stopped.

use std::time::Duration;

use cumulet_domain::{
    Result,
    id::HostId,
    instance::{Event, Intent, State, transition},
    message::{Action, Power},
};
use cumulet_journal::{End, How, NewOperation, Next, Operation, Step, enqueue};
use cumulet_store::{
    attachments,
    entity::{instance, operation::Model},
};
use sea_orm::DatabaseTransaction;

use crate::{
    Driver,
    driver::Heard,
    instance::{instance_of, lock, target},
    launch::run,
    release,
    steps::{
        ASK, HEAR, Nothing, PLACE, RECOMMAND, RUN, command,
        driven::{self, Driven},
        fail, place,
        round::Round,
    },
    stop::{Stop, StopState},
};

/// See the module.
#[derive(Debug)]
pub struct Start;

impl Operation for Start {
    type Cx = Driver;
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
        command::tell::<Self>(round, operation, host).await
    }

    async fn heard(driver: &Driver, operation: Model, heard: Heard) -> Result<()> {
        driven::heard::<Self>(driver, operation, heard).await
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
        if !row.claimed.0 {
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

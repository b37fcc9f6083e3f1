//! Launch: it brings a new instance to `running`. Where a host fails for good it is tried on another one; where
//! there is none, the instance is terminated, with the reason.

use std::time::Duration;

use cumulet_domain::{
    Error, Result,
    id::HostId,
    instance::{Event, Intent},
    message::{Action, Power},
};
use cumulet_journal::{self as journal, End, How, NewOperation, Next, Operation, Step, enqueue};
use cumulet_store::{
    entity::{instance, operation::Model},
    launch_volumes,
};
use sea_orm::DatabaseTransaction;

use crate::{
    Driver, clear,
    driver::Heard,
    instance::{id_of, instance_of, lock, target},
    other_host::retry_on_other_host,
    release,
    steps::{
        ASK, CLEAR, HEAR, PLACE, RECOMMAND, RUN, command,
        demand::LaunchState,
        driven::{self, Driven},
        fail, place,
        round::Round,
    },
    terminate::{Terminate, TerminateState},
};

/// See the module.
#[derive(Debug)]
pub struct Launch;

impl Operation for Launch {
    type Cx = Driver;
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
        command::tell::<Self>(round, operation, host).await
    }

    async fn heard(driver: &Driver, operation: Model, heard: Heard) -> Result<()> {
        if CLEAR.is_of(&operation) {
            return clear::heard(driver, operation, heard).await;
        }
        driven::heard::<Self>(driver, operation, heard).await
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        lock(txn, operation).await
    }

    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        let failure = match &end.how {
            How::Done => {
                release::running(txn, operation, end.now).await?;
                let state = journal::state::<Self>(operation)?;
                if state.volumes.is_empty() && !state.keeps_root {
                    return Ok(());
                }
                return launch_volumes::attached(txn, instance_of(operation), end.now).await;
            }
            How::Failed(failure) => failure,
            How::Superseded => return Ok(()),
        };
        let Some(row) = release::subject(txn, operation).await? else {
            return Ok(());
        };
        let (generation, reason) = fail(txn, &row, Event::LaunchFailed, Intent::Terminated, failure).await?;
        let (on, reason) = (target(&row, generation), Some(reason));
        let new = NewOperation::of::<Terminate>(end.next, on, &TerminateState::because(reason), end.now)?;
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
                kept: None,
                instance: id_of(operation),
                generation: operation.generation.0,
            });
        }
        run(round, row, host).await
    }

    fn is_reached(power: Power) -> bool {
        power == Power::On
    }

    async fn failed(driver: &Driver, operation: Model, _: &HostId, failure: String) -> Result<()> {
        retry_on_other_host(driver, operation, failure).await
    }
}

/// The whole specification, with the VPC's policy on the host.
pub(crate) async fn run(round: &Round, row: &instance::Model, host: &HostId) -> Result<Action> {
    let missing = || {
        let id = row.id.0;
        Error::Internal(format!("{id} has no interface, image or subnet to launch with"))
    };
    let spec = round.specs.get(row.id.to_db()).ok_or_else(missing)?;
    // A command takes one policy along; what else the host has to do with it is told by itself.
    let vpc = spec.primary().ok_or_else(missing)?.vpc;
    let conn = round.driver.store.read();
    let policy = round.policies.get(conn, host, vpc.to_db()).await?;
    Ok(Action::Run {
        spec: Box::new(spec),
        policy,
    })
}

//! Stop: it brings a running instance to `stopped`, and asks the guest first unless it is forced. One that fails is
//! repeated by force.

use std::time::Duration;

use cumulet_domain::{
    Result,
    crash::Role,
    id::HostId,
    instance::StateReason,
    message::{Action, Power},
};
use cumulet_journal::{End, How, NewOperation, Next, Operation, Step, enqueue, state};
use cumulet_store::entity::{instance, operation::Model};
use sea_orm::DatabaseTransaction;
use serde::{Deserialize, Serialize};

use crate::{
    Driver,
    create_image::CreateImage,
    driver::Heard,
    instance::{id_of, lock, target},
    reboot::Reboot,
    release,
    run_again::RunAgain,
    steps::{
        ASK, COMMAND, HEAR, command,
        driven::{self, Driven},
        round::Round,
    },
};

/// See the module.
#[derive(Debug)]
pub struct Stop;

/// What a stop carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopState {
    /// The guest is not asked first.
    #[serde(default)]
    pub force: bool,
    /// What the instance's StateReason becomes when it is done.
    #[serde(default)]
    pub reason: Option<StateReason>,
}

const HALT: Step = Step::elsewhere(
    "halt",
    Role::Host,
    &["received", "begun", "off", "network", "done", "reported"],
);

impl Operation for Stop {
    type Cx = Driver;
    type State = StopState;
    type Batch = Round;

    const NAME: &'static str = "stop";
    const STEPS: &'static [Step] = &[ASK, COMMAND, HALT, HEAR];
    const DEADLINE: Duration = Duration::from_secs(180);
    /// One that is asked for again may be forced.
    const SUPERSEDES: &'static [&'static str] =
        &[Stop::NAME, Reboot::NAME, CreateImage::NAME, RunAgain::NAME];

    async fn step(round: &Round, operation: &Model) -> Result<Next> {
        command::run::<Self>(round, operation).await
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
        if end.how == How::Superseded {
            return Ok(());
        }
        let Some(row) = release::subject(txn, operation).await? else {
            return Ok(());
        };
        let reason = state::<Self>(operation)?.reason;
        if end.how == How::Done {
            return release::stopped(txn, row, reason).await;
        }
        let on = target(&row, row.generation.0);
        let new = NewOperation::of::<Stop>(end.next, on, &StopState { force: true, reason }, end.now)?;
        enqueue(txn, new).await.map(drop)
    }
}

impl Driven for Stop {
    async fn action(_: &Round, operation: &Model, _: &instance::Model, _: &HostId) -> Result<Action> {
        Ok(Action::Stop {
            instance: id_of(operation),
            generation: operation.generation.0,
            force: state::<Self>(operation)?.force,
        })
    }

    fn is_reached(power: Power) -> bool {
        power != Power::On
    }
}

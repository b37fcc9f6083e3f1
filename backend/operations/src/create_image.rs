//! Create image: the guest of a running instance goes off in an orderly way, so that its disks are whole when the
//! snapshots of an image are taken. `run_again` has them taken, and the guest started. The instance is `running` to its
//! account all the while, as on EC2, where this is a reboot.

use std::time::Duration;

use cumulet_domain::{
    Result,
    crash::Role,
    id::HostId,
    message::{Action, Power},
};
use cumulet_journal::{End, How, NewOperation, Next, Operation, Step, enqueue, state};
use cumulet_store::entity::{instance, operation::Model};
use sea_orm::DatabaseTransaction;

use crate::{
    Driver,
    driver::Heard,
    image::{ImageState, abandon, raised},
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
pub struct CreateImage;

/// To the host it is a stop, whose points it passes.
const HALT: Step = Step::elsewhere("halt", Role::Host, &[]);

/// Why an image comes to nothing whose instance is wanted otherwise.
pub(crate) const OVERTAKEN: &str =
    "the instance was stopped or terminated before the snapshots of the image were taken";

impl Operation for CreateImage {
    type Cx = Driver;
    type State = ImageState;
    type Batch = Round;

    const NAME: &'static str = "create-image";
    const STEPS: &'static [Step] = &[ASK, COMMAND, HALT, HEAR];
    const DEADLINE: Duration = Duration::from_secs(180);
    /// It is a reboot itself.
    const SUPERSEDES: &'static [&'static str] = &[Reboot::NAME];

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

    /// Where it can't be shut down it stays as it was: its host may never have heard of the new generation, and what
    /// went off all the same is `changes::react`'s to find.
    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        let state = state::<Self>(operation)?;
        match &end.how {
            How::Failed(failure) => return abandon(txn, &state, &failure.message, end.now).await,
            How::Superseded => return abandon(txn, &state, OVERTAKEN, end.now).await,
            How::Done => {}
        }
        let Some(row) = release::subject(txn, operation).await? else {
            return abandon(txn, &state, OVERTAKEN, end.now).await;
        };
        let generation = raised(txn, &row).await?;
        let new = NewOperation::of::<RunAgain>(end.next, target(&row, generation), &state, end.now)?;
        enqueue(txn, new).await.map(drop)
    }
}

impl Driven for CreateImage {
    async fn action(_: &Round, operation: &Model, _: &instance::Model, _: &HostId) -> Result<Action> {
        Ok(Action::Stop {
            instance: id_of(operation),
            generation: operation.generation.0,
            force: false,
        })
    }

    fn is_reached(power: Power) -> bool {
        power != Power::On
    }
}

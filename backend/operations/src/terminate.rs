//! Terminate: it brings any instance to `terminated`, and everything that it took is given back. It never fails:
//! after its deadline it goes on and is an alarm.

use std::time::Duration;

use cumulet_domain::{
    Result,
    crash::Role,
    id::{HostId, VolumeId},
    instance::StateReason,
    message::{Action, Power},
};
use cumulet_journal::{self as journal, End, How, Next, Operation, Step, state, written};
use cumulet_store::entity::{instance, operation::Model};
use sea_orm::DatabaseTransaction;
use serde::{Deserialize, Serialize};

use crate::{
    Driver,
    create_image::CreateImage,
    delete_volume::delete_all,
    driver::Heard,
    instance::{id_of, lock},
    launch::Launch,
    reboot::Reboot,
    release,
    run_again::RunAgain,
    start::Start,
    steps::{
        ASK, COMMAND, DESTROY, command,
        driven::{self, Driven},
        round::Round,
    },
    stop::Stop,
};

/// See the module.
#[derive(Debug)]
pub struct Terminate;

/// What a terminate carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateState {
    /// What the instance's StateReason becomes when it is done.
    #[serde(default)]
    pub reason: Option<StateReason>,
    /// The root that the host says to have as a volume; `None` until it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<VolumeId>,
}

impl TerminateState {
    /// One that begins, for this reason.
    pub fn because(reason: Option<StateReason>) -> Self {
        TerminateState { reason, root: None }
    }
}

const HEAR: Step = Step::elsewhere(
    "hear",
    Role::Conductor,
    &["heard", "freed", "released", "closed", "ended"],
);

impl Operation for Terminate {
    type Cx = Driver;
    type State = TerminateState;
    type Batch = Round;

    const NAME: &'static str = "terminate";
    const STEPS: &'static [Step] = &[ASK, COMMAND, DESTROY, HEAR];
    const DEADLINE: Duration = Duration::from_secs(180);
    const SUPERSEDES: &'static [&'static str] = &[
        Launch::NAME,
        Start::NAME,
        Stop::NAME,
        Reboot::NAME,
        Terminate::NAME,
        CreateImage::NAME,
        RunAgain::NAME,
    ];

    async fn step(round: &Round, operation: &Model) -> Result<Next> {
        command::run::<Self>(round, operation).await
    }

    async fn tell(round: &Round, operation: &Model, host: &HostId) -> Result<()> {
        command::tell::<Self>(round, operation, host).await
    }

    async fn heard(driver: &Driver, mut operation: Model, heard: Heard) -> Result<()> {
        if let Heard::Instance(of) = &heard {
            let mut state = state::<Self>(&operation)?;
            state.root = of.outcome.root;
            operation.state = written(&state)?;
        }
        driven::heard::<Self>(driver, operation, heard).await
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        lock(txn, operation).await
    }

    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        if end.how != How::Done {
            return Ok(());
        }
        let Some(row) = release::subject(txn, operation).await? else {
            return Ok(());
        };
        let TerminateState { reason, root } = state::<Self>(operation)?;
        let deleting = release::terminated(txn, row, reason, root, end.now).await?;
        delete_all(txn, &deleting, end).await
    }
}

impl Driven for Terminate {
    const IS_ENDLESS: bool = true;

    async fn action(round: &Round, operation: &Model, _: &instance::Model, _: &HostId) -> Result<Action> {
        Ok(Action::Destroy {
            instance: id_of(operation),
            generation: operation.generation.0,
            kept: round.kept_root(operation),
        })
    }

    fn is_reached(power: Power) -> bool {
        power == Power::Absent
    }

    /// Nothing of it is left on any host.
    async fn without_host(round: &Round, operation: &Model) -> Result<()> {
        let end = journal::end::<Self>(&round.driver, operation.clone(), How::Done);
        end.await.map(drop)
    }
}

//! Run again: the guest that `create_image` has shut down comes back on its host when the snapshots of the image are
//! taken, or can't be. The instance has kept its place there, its addresses and its state.

use std::time::Duration;

use cumulet_domain::{
    Result,
    crash::Role,
    id::HostId,
    instance::{Event, Intent},
    message::{Action, Power},
};
use cumulet_journal::{self as journal, End, How, NewOperation, Next, Operation, Step, enqueue, state};
use cumulet_store::{
    attachments,
    entity::{instance, operation::Model},
    snapshots,
};
use sea_orm::DatabaseTransaction;

use crate::{
    Driver,
    create_image::OVERTAKEN,
    driver::Heard,
    image::{ImageState, abandon},
    instance::{instance_of, lock, target},
    launch::run,
    release,
    snapshot::{self, is_pending, subject},
    steps::{
        COMMAND, HEAR, RUN, command,
        driven::{self, Driven},
        fail,
        round::Round,
    },
    stop::{Stop, StopState},
};

/// See the module.
#[derive(Debug)]
pub struct RunAgain;

/// To the host it is a start, whose points it passes.
const RERUN: Step = Step::elsewhere(RUN.name, Role::Host, &[]);

/// When it is looked again whether the snapshots are taken.
const AGAIN: Duration = Duration::from_secs(1);

impl Operation for RunAgain {
    type Cx = Driver;
    type State = ImageState;
    type Batch = Round;

    const NAME: &'static str = "run-again";
    const STEPS: &'static [Step] = &[COMMAND, RERUN, HEAR];
    /// What snapshots have, and some minutes to start.
    const DEADLINE: Duration = Duration::from_secs(12 * 3600 + 300);
    const SUPERSEDES: &'static [&'static str] = &[];

    async fn step(round: &Round, operation: &Model) -> Result<Next> {
        if !round.is_overdue(operation) && still_taken(round, operation).await? {
            return Ok(Next::Wait);
        }
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

    /// Where it can't be started it is stopped, as after a start that fails.
    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        let state = state::<Self>(operation)?;
        let failure = match &end.how {
            How::Done => return attachments::all_made(txn, instance_of(operation), end.now).await,
            How::Superseded => return abandon(txn, &state, OVERTAKEN, end.now).await,
            How::Failed(failure) => failure,
        };
        abandon(txn, &state, &failure.message, end.now).await?;
        let Some(row) = release::subject(txn, operation).await? else {
            return Ok(());
        };
        let (generation, reason) = fail(txn, &row, Event::StopAsked, Intent::Stopped, failure).await?;
        let state = StopState {
            force: true,
            reason: Some(reason),
        };
        let new = NewOperation::of::<Stop>(end.next, target(&row, generation), &state, end.now)?;
        enqueue(txn, new).await.map(drop)
    }
}

impl Driven for RunAgain {
    async fn action(round: &Round, _: &Model, row: &instance::Model, host: &HostId) -> Result<Action> {
        run(round, row, host).await
    }

    fn is_reached(power: Power) -> bool {
        power == Power::On
    }
}

/// Whether the snapshots are being taken. Somebody has to be told to: the first look does that.
async fn still_taken(round: &Round, operation: &Model) -> Result<bool> {
    let ids = state::<RunAgain>(operation)?.ids();
    let rows = snapshots::load(round.driver.store.read(), &ids).await?;
    if !rows.iter().any(is_pending) {
        return Ok(false);
    }
    let (row, id, now) = (
        operation.clone(),
        journal::Context::next_id(&round.driver),
        round.now,
    );
    let write = round.driver.store.write(move |txn| {
        Box::pin(async move {
            snapshots::lock(txn, &ids).await?;
            let rows = snapshots::load(txn, &ids).await?;
            let is_over = !rows.iter().any(is_pending);
            if !journal::proceed(txn, &row, &COMMAND, row.attempts.0, now.after(AGAIN)).await? || is_over {
                return Ok(());
            }
            match rows.first() {
                Some(first) if journal::active(txn, subject(first.id.to_db())).await?.is_none() => {
                    snapshot::ask(txn, &rows, id, now).await
                }
                _ => Ok(()),
            }
        })
    });
    write.await.map(|()| true)
}

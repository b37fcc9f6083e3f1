//! Modify: a volume becomes larger, or gets another type or performance. Its row says so as soon as its host has the
//! room, and a guest that runs is made to see it; whoever has it next gets it so anyway. Where a host can't do it, the
//! row is put back, and the same operation, as an undoing one, tells the host so: what has grown there stays as large as
//! it is, since a disk is never made smaller.

use std::time::Duration;

use cumulet_domain::{
    Result,
    crash::Role,
    id::{HostId, VolumeId},
    message::Change,
    time::Timestamp,
    volume::{AttachmentState, ModificationState, VolumeState},
};
use cumulet_journal::{self as journal, End, Failure, How, NewOperation, Next, Operation, Step, enqueue};
use cumulet_store::{
    attachments,
    entity::{columns::Amount, operation::Model, volume, volume_attachment, volume_modification},
    modifications,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use serde::{Deserialize, Serialize};

use crate::{
    Driver,
    attach_volume::POINTS,
    driver::{Heard, OfInstance},
    plug::{self, Plug, Prepared},
    steps::{ASK, COMMAND, HEAR, driven::backoff, failure::on_host},
    volume::{target, volume_of},
    volume_round::VolumeRound,
};

/// See the module.
#[derive(Debug)]
pub struct ModifyVolume;

/// What the operation carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modify {
    /// The modification has failed, and the host is to hear that all is as before.
    #[serde(default)]
    pub undo: bool,
}

const GROW: Step = Step::elsewhere("grow", Role::Host, POINTS);

/// How often a command may fail before the operation does.
const ATTEMPTS: u32 = 5;

impl Operation for ModifyVolume {
    type Cx = Driver;
    type State = Modify;
    type Batch = VolumeRound;

    const NAME: &'static str = Change::ModifyVolume.name();
    const STEPS: &'static [Step] = &[ASK, COMMAND, GROW, HEAR];
    const DEADLINE: Duration = Duration::from_secs(300);
    /// One that undoes what another one was asked for. (While that is under way nobody is let in.)
    const SUPERSEDES: &'static [&'static str] = &[ModifyVolume::NAME];

    async fn step(round: &VolumeRound, operation: &Model) -> Result<Next> {
        if round.volume(operation).is_some() && round.attachment(operation).is_none() {
            // No guest has it: the row is all there is to be changed, and its end does that.
            let end = journal::end::<Self>(&round.driver, operation.clone(), How::Done);
            return end.await.map(|_| Next::Wait);
        }
        plug::run::<Self>(round, operation).await
    }

    async fn tell(round: &VolumeRound, operation: &Model, host: &HostId) -> Result<()> {
        plug::tell::<Self>(round, operation, host).await
    }

    async fn heard(driver: &Driver, operation: Model, heard: Heard) -> Result<()> {
        plug::heard::<Self>(driver, operation, heard).await
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        attachments::lock_with_instance_and_host(txn, volume_of(operation)).await
    }

    /// However it ends, the volume is what its row says, and the modification has come to its end: also where the
    /// volume has gone to another instance meanwhile, or its instance has ended. What was to take its host's room and
    /// has not yet takes it here.
    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        if undoes(operation) {
            return Ok(()); // what it put back has ended before it began; there may be another one by now
        }
        let id = volume_of(operation);
        let (Some(row), Some(change)) = (
            attachments::find(txn, id).await?,
            modifications::find(txn, id).await?,
        ) else {
            return Ok(());
        };
        if change.state.0 != ModificationState::Modifying {
            return Ok(());
        }
        if matches!(row.state.0, VolumeState::Deleting | VolumeState::Deleted) {
            let failure = plug::internal("the volume was deleted".into());
            return modifications::end(txn, &change, Some(failure.message), end.now).await;
        }
        if let How::Failed(failure) = &end.how {
            return undo(txn, &row, &change, failure, end).await;
        }
        let failure = match modifications::apply(txn, &row, change.target()).await? {
            true => None,
            false => Some(no_room(row.id.0, &change).message),
        };
        modifications::end(txn, &change, failure, end.now).await
    }
}

/// The volume is as before. A host that has been told otherwise is told again.
async fn undo(
    txn: &DatabaseTransaction,
    row: &volume::Model,
    change: &volume_modification::Model,
    failure: &Failure,
    end: &End,
) -> Result<()> {
    modifications::apply(txn, row, change.original()).await?;
    modifications::end(txn, change, Some(failure.message.clone()), end.now).await?;
    if change.generation.is_none() {
        return Ok(());
    }
    let on = target(row, row.generation.0);
    let new = NewOperation::of::<ModifyVolume>(end.next, on, &Modify { undo: true }, end.now)?;
    enqueue(txn, new).await.map(drop)
}

/// Whether an operation undoes what another one has begun. (One that can't be read does not.)
fn undoes(operation: &Model) -> bool {
    journal::state::<ModifyVolume>(operation).is_ok_and(|state| state.undo)
}

impl Plug for ModifyVolume {
    const WHAT: Change = Change::ModifyVolume;
    const STATES: &'static [AttachmentState] = &[AttachmentState::Attached];
    const IS_ENDLESS: bool = false;

    fn is_endless(operation: &Model) -> bool {
        undoes(operation)
    }

    async fn told(
        conn: &impl ConnectionTrait,
        operation: &Model,
        _: &volume_attachment::Model,
    ) -> Result<Option<Amount>> {
        let change = modifications::find(conn, volume_of(operation)).await?;
        Ok(change.and_then(|change| change.generation))
    }

    async fn tells(
        txn: &DatabaseTransaction,
        operation: &Model,
        _: &volume_attachment::Model,
        generation: Option<Amount>,
    ) -> Result<()> {
        modifications::set_told(txn, volume_of(operation), generation).await
    }

    /// The host has the room, and the row says what is to be.
    async fn prepared(
        txn: &DatabaseTransaction,
        operation: &Model,
        _: &str,
        _: Timestamp,
    ) -> Result<Prepared> {
        if undoes(operation) {
            return Ok(Prepared::Ready);
        }
        let id = volume_of(operation);
        let (Some(row), Some(change)) = (
            attachments::find(txn, id).await?,
            modifications::find(txn, id).await?,
        ) else {
            return Ok(Prepared::Ready); // its end finds that too
        };
        Ok(match modifications::apply(txn, &row, change.target()).await? {
            true => Prepared::Ready,
            false => Prepared::Refused(no_room(row.id.0, &change)),
        })
    }

    async fn failed(
        cx: &Driver,
        operation: Model,
        _: volume_attachment::Model,
        heard: OfInstance,
    ) -> Result<()> {
        let attempts = operation.attempts.0 + 1;
        let failure = heard.outcome.failure.unwrap_or_default();
        tracing::warn!(
            volume = volume_of(&operation),
            attempts,
            failure,
            "a modification has failed"
        );
        let is_over = heard.outcome.permanent || attempts >= ATTEMPTS;
        if is_over && !undoes(&operation) {
            let how = How::Failed(on_host(&heard.host, failure));
            return journal::end::<Self>(cx, operation, how).await.map(drop);
        }
        plug::again::<Self>(cx, &operation, attempts, backoff(attempts)).await
    }
}

fn no_room(volume: VolumeId, change: &volume_modification::Model) -> Failure {
    let code = "Server.InsufficientVolumeCapacity";
    let more = change
        .target_size_gib
        .0
        .saturating_sub(change.original_size_gib.0);
    Failure {
        code: code.into(),
        message: format!("{code}: the volume's host has no {more} GiB of disk more for {volume}"),
    }
}

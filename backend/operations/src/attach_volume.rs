//! Attach: a volume becomes a disk of its instance. Where that fails, what the host may have begun is undone by a
//! detach, after which the volume is free.

use std::time::Duration;

use cumulet_domain::{
    Error, Result,
    crash::Role,
    id::{HostId, VolumeId},
    message::Change,
    time::Timestamp,
    volume::{AttachmentState, VolumeState},
};
use cumulet_journal::{self as journal, End, Failure, How, NewOperation, Next, Operation, Step, enqueue};
use cumulet_store::{
    attachments,
    entity::{instance, operation::Model, volume, volume_attachment},
    pool, rows, snapshots,
};
use sea_orm::{DatabaseTransaction, EntityTrait as _};

use crate::{
    Driver,
    detach_volume::DetachVolume,
    driver::{Heard, OfInstance},
    keepers::Keepers,
    modify_volume::ModifyVolume,
    plug::{self, Plug, Prepared},
    steps::{ASK, COMMAND, HEAR, Nothing, driven::backoff, failure::on_host},
    volume::{current, target, volume_of},
    volume_round::VolumeRound,
};

/// See the module.
#[derive(Debug)]
pub struct AttachVolume;

/// What a host passes while a guest gets a disk, or lets go of one: it goes by the specification alone.
pub(crate) const POINTS: &[&str] = &[
    "received",
    "begun",
    "metadata",
    "image",
    "disk",
    "tap",
    "plugged",
    "firewall",
    "unplugged",
    "done",
    "reported",
];

const PLUG: Step = Step::elsewhere("plug", Role::Host, POINTS);

/// How often a command may fail before the operation does.
const ATTEMPTS: u32 = 5;

impl Operation for AttachVolume {
    type Cx = Driver;
    type State = Nothing;
    type Batch = VolumeRound;

    const NAME: &'static str = Change::AttachVolume.name();
    const STEPS: &'static [Step] = &[ASK, COMMAND, PLUG, HEAR];
    const DEADLINE: Duration = Duration::from_secs(300);
    /// What is left of one whose instance has ended; and a modification, which the next host to be told has in it.
    const SUPERSEDES: &'static [&'static str] = &[AttachVolume::NAME, DetachVolume::NAME, ModifyVolume::NAME];

    async fn step(round: &VolumeRound, operation: &Model) -> Result<Next> {
        plug::run::<Self>(round, operation).await
    }

    async fn tell(round: &VolumeRound, operation: &Model, host: &HostId) -> Result<()> {
        plug::tell::<Self>(round, operation, host).await
    }

    async fn heard(driver: &Driver, operation: Model, heard: Heard) -> Result<()> {
        plug::heard::<Self>(driver, operation, heard).await
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        attachments::lock_with_instance(txn, volume_of(operation)).await
    }

    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        let Some((volume, attached)) = plug::ending::<Self>(txn, operation, end).await? else {
            return Ok(());
        };
        let told = attached.generation;
        match (&end.how, told) {
            (How::Done, _) => {
                attachments::set_state(txn, &attached, AttachmentState::Attached, told).await?;
                match told {
                    Some(_) => attachments::made(txn, volume.id.to_db(), end.now).await,
                    None => Ok(()),
                }
            }
            // No host has heard of it: an instance is specified with the volumes that its own host keeps, whoever asks.
            (_, None) if !is_at(txn, &volume, &attached).await? => plug::free(txn, &volume, &attached).await,
            _ => {
                attachments::set_state(txn, &attached, AttachmentState::Detaching, None).await?;
                attachments::moved(txn, &volume, VolumeState::InUse, None).await?;
                let on = target(&volume, volume.generation.next().0);
                let new = NewOperation::of::<DetachVolume>(end.next, on, &Nothing {}, end.now)?;
                enqueue(txn, new).await.map(drop)
            }
        }
    }
}

impl Plug for AttachVolume {
    const WHAT: Change = Change::AttachVolume;
    const STATES: &'static [AttachmentState] = &[AttachmentState::Attaching];
    const IS_ENDLESS: bool = false;

    /// The host has room for the data, or has it, or reaches it and keeps it from now on: whichever host kept it before has
    /// no guest that has it, or the volume would not have been free.
    async fn prepared(
        txn: &DatabaseTransaction,
        operation: &Model,
        host: &str,
        now: Timestamp,
    ) -> Result<Prepared> {
        let Some(volume) = current(txn, operation).await? else {
            return Ok(Prepared::Ready); // its end finds that too
        };
        if volume.is_shared() && !pool::is_reached_by(txn, host).await? {
            return Ok(Prepared::Later);
        }
        Ok(match &volume.host {
            Some(there) if there == host => Prepared::Ready,
            Some(there) if volume.is_shared() => take_over(txn, &volume, there, host, now).await?,
            Some(_) => Prepared::Refused(plug::internal("the volume's data is on another host".into())),
            None if attachments::claim(txn, &volume, host).await? => Prepared::Ready,
            None => Prepared::Refused(no_room(volume.id.0, volume.size_gib.0)),
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
            "an attach has failed"
        );
        if heard.outcome.permanent || attempts >= ATTEMPTS {
            let how = How::Failed(on_host(&heard.host, failure));
            return journal::end::<Self>(cx, operation, how).await.map(drop);
        }
        plug::again::<Self>(cx, &operation, attempts, backoff(attempts)).await
    }
}

/// The host keeps from now on what another one has kept.
/// Whether the host of the instance keeps the volume.
async fn is_at(
    txn: &DatabaseTransaction,
    volume: &volume::Model,
    attached: &volume_attachment::Model,
) -> Result<bool> {
    let row = rows::one(instance::Entity::find_by_id(attached.instance), txn).await?;
    Ok(row.is_some_and(|row| row.host.is_some() && row.host == volume.host))
}

/// The host keeps a volume from now on that another one kept. What that one reads of it for a snapshot is of the moment
/// that was asked for, and is waited for while that host is to be had; else it is void, and is begun anew here.
async fn take_over(
    txn: &DatabaseTransaction,
    volume: &volume::Model,
    from: &str,
    to: &str,
    now: Timestamp,
) -> Result<Prepared> {
    attachments::lock(txn, volume.id.to_db()).await?;
    if snapshots::is_read_by(txn, volume.id.to_db(), from).await? {
        let keepers = Keepers::load(txn, std::slice::from_ref(volume), now).await?;
        if keepers.is_able(from) {
            return Ok(Prepared::Later);
        }
    }
    match attachments::hand_over(txn, volume, to).await? {
        true => Ok(Prepared::Ready),
        false => Err(Error::Unavailable(format!(
            "{} was changed meanwhile",
            volume.id.0
        ))),
    }
}

fn no_room(volume: VolumeId, gib: u32) -> Failure {
    let code = "Server.InsufficientVolumeCapacity";
    Failure {
        code: code.into(),
        message: format!("{code}: the instance's host has no {gib} GiB of disk for {volume}"),
    }
}

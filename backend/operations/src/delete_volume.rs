//! Delete: nothing of a volume is left in its store, and what it has claimed of a host is free. It never fails: it goes on
//! until the host is there, or another one that reaches the store where the volume is.

use std::time::Duration;

use cumulet_domain::{
    ResourceKind, Result,
    crash::Role,
    crash_point,
    id::{HostId, OperationId},
    message::Action,
    volume::VolumeState,
};
use cumulet_journal::{self as journal, End, How, NewOperation, Next, Operation, Step, enqueue};
use cumulet_store::{
    attachments,
    entity::{operation::Model, volume},
    tags,
};
use sea_orm::DatabaseTransaction;

use crate::{
    Driver,
    attach_volume::AttachVolume,
    detach_volume::DetachVolume,
    driver::Heard,
    modify_volume::ModifyVolume,
    steps::{
        ASK, COMMAND, HEAR, Nothing,
        driven::backoff,
        hand_over::{RESEND, hand_over},
    },
    volume::{current, target, volume_of},
    volume_round::VolumeRound,
};

/// See the module.
#[derive(Debug)]
pub struct DeleteVolume;

/// When it is looked again whether snapshots are still being taken.
const AGAIN: Duration = Duration::from_secs(1);

/// What a host passes while it deletes a volume's file.
const REMOVE: Step = Step::elsewhere(
    "remove",
    Role::Host,
    &["received", "tombstone", "removed", "reported"],
);

impl Operation for DeleteVolume {
    type Cx = Driver;
    type State = Nothing;
    type Batch = VolumeRound;

    const NAME: &'static str = "delete-volume";
    const STEPS: &'static [Step] = &[ASK, COMMAND, REMOVE, HEAR];
    const DEADLINE: Duration = Duration::from_secs(300);
    /// What is left of those whose instance has ended.
    const SUPERSEDES: &'static [&'static str] = &[AttachVolume::NAME, DetachVolume::NAME, ModifyVolume::NAME];

    async fn step(round: &VolumeRound, operation: &Model) -> Result<Next> {
        let Some(volume) = round.volume(operation) else {
            return Ok(Next::Wait); // superseded between the lease and the look at the volume
        };
        if round.is_overdue(operation) {
            tracing::error!(volume = %volume.id.0, host = volume.host, "a volume can't be deleted; it goes on");
        }
        let Some(bound) = &volume.host else {
            let end = journal::end::<Self>(&round.driver, operation.clone(), How::Done);
            return end.await.map(|_| Next::Wait);
        };
        // What was asked for before is taken before it goes.
        let keeper = round
            .keeper(volume, bound)
            .filter(|_| !round.is_taken_of(operation));
        let Some(host) = keeper else {
            let (store, next) = (&round.driver.store, round.now.after(AGAIN));
            let later = journal::go_on(store, operation, &COMMAND, operation.attempts.0, next);
            return later.await.map(|_| Next::Wait);
        };
        let (store, next) = (&round.driver.store, round.now.after(RESEND));
        let waiting = journal::go_on(store, operation, &COMMAND, operation.attempts.0, next).await?;
        let is_told = waiting && is_kept_by(&round.driver, volume, host).await?;
        crash_point!(Self::NAME, "waiting");
        let told = || Next::Tell(HostId(host.into()));
        Ok(if is_told { told() } else { Next::Wait })
    }

    async fn tell(round: &VolumeRound, operation: &Model, host: &HostId) -> Result<()> {
        let Some(row) = round.volume(operation) else {
            return Ok(());
        };
        let action = Action::DeleteVolume {
            volume: row.id.0,
            generation: operation.generation.0,
            store: row.store(),
        };
        if hand_over(&round.driver, operation, host, action, round.now).await? {
            crash_point!(Self::NAME, "sent");
        }
        Ok(())
    }

    async fn heard(driver: &Driver, operation: Model, heard: Heard) -> Result<()> {
        let Heard::Volume(outcome) = heard else {
            return Ok(());
        };
        let Some(failure) = outcome.failure else {
            return journal::end::<Self>(driver, operation, How::Done).await.map(drop);
        };
        let attempts = operation.attempts.0 + 1;
        tracing::error!(volume = %outcome.volume, attempts, failure, "a volume could not be deleted; it goes on");
        let next = driver.clock.now().after(backoff(attempts));
        let again = journal::go_on(&driver.store, &operation, &COMMAND, attempts, next);
        again.await.map(drop)
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        attachments::lock_with_host(txn, volume_of(operation)).await
    }

    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        if end.how != How::Done {
            return Ok(());
        }
        let Some(volume) = current(txn, operation).await? else {
            return Ok(());
        };
        attachments::give_back(txn, &volume).await?;
        attachments::moved(txn, &volume, VolumeState::Deleted, Some(end.now)).await?;
        tags::remove(txn, ResourceKind::Volume, &[volume.id.to_db()]).await
    }
}

/// Makes a host the one whose answer counts, where it is not that yet.
async fn is_kept_by(driver: &Driver, volume: &volume::Model, host: &str) -> Result<bool> {
    if volume.host.as_deref() == Some(host) {
        return Ok(true);
    }
    tracing::warn!(volume = %volume.id.0, host, before = volume.host, "another host is to delete a volume");
    let (row, host) = (volume.clone(), host.to_owned());
    let write = driver
        .store
        .write(move |txn| Box::pin(async move { attachments::hand_over(txn, &row, &host).await }));
    write.await
}

/// Begins the deletion of volumes that are to end, in the transaction that has said so. Their operations' ids follow
/// the one that is at hand.
pub(crate) async fn delete_all(
    txn: &DatabaseTransaction,
    volumes: &[volume::Model],
    end: &End,
) -> Result<()> {
    for (volume, n) in volumes.iter().zip(0..) {
        let id = OperationId::new(end.next.number().wrapping_add(n));
        let on = target(volume, volume.generation.0);
        let new = NewOperation::of::<DeleteVolume>(id, on, &Nothing {}, end.now)?;
        enqueue(txn, new).await?;
    }
    Ok(())
}

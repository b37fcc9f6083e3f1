//! Delete: nothing of a volume is left on its host, and what it has claimed there is free. It never fails: it goes on
//! until the host is there.

use std::time::Duration;

use cumulet_domain::{
    ResourceKind, Result,
    crash::Role,
    crash_point,
    id::{HostId, OperationId, VolumeId},
    message::{Action, Command},
    time::Timestamp,
    volume::VolumeState,
};
use sea_orm::DatabaseTransaction;

use super::{AttachVolume, DetachVolume, VolumeRound, current, plug::pause, target, volume_of};
use crate::{
    conductor::{
        Conductor,
        operations::{
            Heard, start,
            steps::{ASK, COMMAND, HEAR, command::RESEND, generation_of},
        },
    },
    entity::{operation::Model, volume},
    journal::{self, End, How, NewOperation, Next, Operation, Step, enqueue},
    store::{attachments, tags},
};

/// See the module.
#[derive(Debug)]
pub struct DeleteVolume;

/// What a host passes while it deletes a volume's file.
const REMOVE: Step = Step::elsewhere(
    "remove",
    Role::Host,
    &["received", "tombstone", "removed", "reported"],
);

impl Operation for DeleteVolume {
    type Cx = Conductor;
    type State = start::Nothing;
    type Batch = VolumeRound;

    const NAME: &'static str = "delete-volume";
    const STEPS: &'static [Step] = &[ASK, COMMAND, REMOVE, HEAR];
    const DEADLINE: Duration = Duration::from_secs(300);
    /// What is left of those whose instance has ended.
    const SUPERSEDES: &'static [&'static str] = &[AttachVolume::NAME, DetachVolume::NAME];

    async fn step(round: &VolumeRound, operation: &Model) -> Result<Next> {
        let Some(volume) = round.volume(operation) else {
            return Ok(Next::Wait); // superseded between the lease and the look at the volume
        };
        if round.is_overdue(operation) {
            tracing::error!(volume = %volume.id.0, host = volume.host, "a volume can't be deleted; it goes on");
        }
        let Some(host) = volume.host.clone().map(HostId) else {
            let end = journal::end::<Self>(&round.conductor, operation.clone(), How::Done);
            return end.await.map(|_| Next::Wait);
        };
        let (store, next) = (&round.conductor.store, round.now.after(RESEND));
        let waiting = journal::go_on(store, operation, &COMMAND, operation.attempts, next).await?;
        crash_point!(Self::NAME, "waiting");
        Ok(if waiting { Next::Tell(host) } else { Next::Wait })
    }

    async fn tell(round: &VolumeRound, operation: &Model, host: &HostId) -> Result<()> {
        let volume = VolumeId::from_db(volume_of(operation));
        let command = Command {
            operation: Some(OperationId::from_db(operation.id)),
            deadline: Timestamp(operation.deadline).max(round.now.after(RESEND)),
            action: Action::DeleteVolume {
                volume,
                generation: generation_of(operation)?,
            },
        };
        match round.conductor.bus.send(host, command).await {
            Ok(()) => crash_point!(Self::NAME, "sent"),
            // It is sent again.
            Err(error) => tracing::warn!(%volume, %host, %error, "a command could not be handed over"),
        }
        Ok(())
    }

    async fn heard(conductor: &Conductor, operation: Model, heard: Heard) -> Result<()> {
        let Heard::Volume(outcome) = heard else {
            return Ok(());
        };
        let Some(failure) = outcome.failure else {
            return journal::end::<Self>(conductor, operation, How::Done)
                .await
                .map(drop);
        };
        let attempts = operation.attempts + 1;
        tracing::error!(volume = %outcome.volume, attempts, failure, "a volume could not be deleted; it goes on");
        let next = conductor.clock.now().after(pause(attempts));
        let again = journal::go_on(&conductor.store, &operation, &COMMAND, attempts, next);
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

/// Begins the deletion of volumes that are to end, in the transaction that has said so. Their operations' ids follow
/// the one that is at hand.
pub(in crate::conductor::operations) async fn delete_all(
    txn: &DatabaseTransaction,
    volumes: &[volume::Model],
    end: &End,
) -> Result<()> {
    for (volume, n) in volumes.iter().zip(0..) {
        let id = OperationId::new(end.next.number().wrapping_add(n));
        let on = target(volume, volume.generation);
        let new = NewOperation::of::<DeleteVolume>(id, on, &start::Nothing {}, end.now)?;
        enqueue(txn, new).await?;
    }
    Ok(())
}

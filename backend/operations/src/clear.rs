//! The step `clear`: removal of a failed launch from its host, before it is tried on another. The host is
//! told to destroy what there is, at the new generation, so that no command of the old one can start the
//! guest there any more. Only the host's report that nothing is left gives back what the instance took of it.
//!
//! Volumes that came there with it are deleted there when the guest is gone, one by one, each by a command of its own;
//! what of that is lost comes again with the next answer to the first command.

use cumulet_domain::{
    Result,
    id::HostId,
    message::{Action, Power, VolumeOutcome},
    time::Timestamp,
    volume::VolumeStore,
};
use cumulet_journal::{self as journal, Next};
use cumulet_store::{
    entity::{
        operation::{self, OperationStatus},
        volume,
    },
    instances, launch_volumes, rows,
};
use sea_orm::{DatabaseTransaction, EntityTrait as _};

use crate::{
    Driver,
    driver::{Heard, OfInstance},
    instance::instance_of,
    launch::Launch,
    release,
    steps::{
        CLEAR, PLACE,
        driven::backoff,
        failure::tried,
        give_up,
        hand_over::{RESEND, hand_over},
        round::Round,
    },
};

/// The step: the operation's next look is set, then the host that is answered is to be told.
pub(crate) async fn run(round: &Round, operation: &operation::Model) -> Result<Next> {
    let row = round.instance(operation)?;
    if row.generation != operation.generation {
        return Ok(Next::Wait); // superseded between the lease and the look at the instance
    }
    if round.is_overdue(operation) {
        let hosts = journal::state::<Launch>(operation)?.tried;
        let failure = tried(&hosts, "what is left there could not be cleared away in time");
        let end = give_up::<Launch>(&round.driver, operation.clone(), failure);
        return end.await.map(|()| Next::Wait);
    }
    let store = &round.driver.store;
    let Some(host) = row.host.clone().map(HostId) else {
        let next = journal::go_on(store, operation, &PLACE, 0, round.now);
        return next.await.map(|_| Next::Wait);
    };
    let next = round.now.after(RESEND);
    let waiting = journal::go_on(store, operation, &CLEAR, operation.attempts.0, next).await?;
    Ok(if waiting { Next::Tell(host) } else { Next::Wait })
}

/// The host has answered: when nothing is left there, the launch goes on elsewhere.
pub(crate) async fn heard(driver: &Driver, operation: operation::Model, heard: Heard) -> Result<()> {
    match heard {
        Heard::Instance(of) => of_guest(driver, operation, *of).await,
        Heard::Volume(outcome) => of_volume(driver, operation, outcome).await,
        Heard::Snapshots(..) => Ok(()),
    }
}

/// What has become of the guest.
async fn of_guest(driver: &Driver, operation: operation::Model, of: OfInstance) -> Result<()> {
    let OfInstance { host, outcome, .. } = of;
    let now = driver.clock.now();
    if outcome.failure.is_some() || outcome.report.power != Power::Absent {
        tracing::warn!(
            operation.instance = instance_of(&operation),
            failure = ?outcome.failure,
            "a failed launch could not be cleared away"
        );
        let attempts = operation.attempts.0 + 1;
        let next = now.after(backoff(attempts));
        let again = journal::go_on(&driver.store, &operation, &CLEAR, attempts, next);
        return again.await.map(drop);
    }
    let copy = operation.clone();
    let write = driver.store.write(move |txn| {
        Box::pin(async move {
            instances::lock(txn, &[instance_of(&operation)]).await?;
            if !is_clearing(txn, &operation).await? {
                return Ok(Vec::new());
            }
            go_on(txn, &operation, now).await
        })
    });
    for volume in write.await? {
        delete(driver, &copy, &host, &volume, now).await?;
    }
    driver.wake.now();
    Ok(())
}

/// Whether the operation is still at this step, now that nobody else changes it: an answer may come twice.
async fn is_clearing(txn: &DatabaseTransaction, operation: &operation::Model) -> Result<bool> {
    let row = rows::one(operation::Entity::find_by_id(operation.id), txn).await?;
    Ok(row.is_some_and(|row| row.status.0 == OperationStatus::Active && CLEAR.is_of(&row)))
}

/// The launch is to be placed anew, unless some of its volumes are still there: those.
async fn go_on(
    txn: &DatabaseTransaction,
    operation: &operation::Model,
    now: Timestamp,
) -> Result<Vec<volume::Model>> {
    let left = launch_volumes::bound(txn, instance_of(operation)).await?;
    if !left.is_empty() {
        let (attempts, next) = (operation.attempts.0, now.after(RESEND));
        let waits = journal::proceed(txn, operation, &CLEAR, attempts, next).await?;
        return Ok(if waits { left } else { Vec::new() });
    }
    if journal::proceed(txn, operation, &PLACE, 0, now).await?
        && let Some(row) = release::subject(txn, operation).await?
    {
        release::unplaced(txn, &row).await?;
    }
    Ok(Vec::new())
}

/// Tells the host to delete what it may have made of a volume.
async fn delete(
    driver: &Driver,
    operation: &operation::Model,
    host: &HostId,
    volume: &volume::Model,
    now: Timestamp,
) -> Result<()> {
    let action = Action::DeleteVolume {
        volume: volume.id.0,
        generation: volume.generation.0,
        store: VolumeStore::Local,
    };
    hand_over(driver, operation, host, action, now).await.map(drop)
}

/// What has become of a volume.
async fn of_volume(driver: &Driver, operation: operation::Model, outcome: VolumeOutcome) -> Result<()> {
    let volume = outcome.volume;
    if let Some(failure) = outcome.failure {
        tracing::warn!(%volume, failure, "a volume of a failed launch could not be deleted; it goes on");
        return Ok(());
    }
    let now = driver.clock.now();
    let write = driver.store.write(move |txn| {
        Box::pin(async move {
            instances::lock(txn, &[instance_of(&operation)]).await?;
            if !is_clearing(txn, &operation).await? {
                return Ok(()); // where another operation has taken over, it has what is left there
            }
            let bound = launch_volumes::bound(txn, instance_of(&operation)).await?;
            if let Some(row) = bound.iter().find(|row| row.id.0 == volume) {
                launch_volumes::taken_away(txn, row).await?;
            }
            go_on(txn, &operation, now).await.map(drop)
        })
    });
    write.await?;
    driver.wake.now();
    Ok(())
}

//! How many snapshots are under way at a time: of one volume, copies, and all of an account. Each is work that a host does
//! after what it was told before, whoever asked for that. Those that nobody sees count too, until they are done, whatever
//! becomes of what waits for them. Whoever inserts snapshots' rows asks, when they are there: what is too much is undone.

use cumulet_core::Quotas;
use cumulet_domain::{
    Error, Result,
    account::AccountId,
    error::Limit,
    id::VolumeId,
    snapshot::{NO_VOLUME, SnapshotState},
    volume::VolumeType,
};
use cumulet_store::{
    column,
    entity::{account, columns::Named, snapshot},
    lock,
};
use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, QuerySelect as _};

/// Whether the account may have as many under way as it has now, with those that were inserted of these volumes.
///
/// # Errors
/// `LimitExceeded`; those of the database.
pub(super) async fn check(
    txn: &DatabaseTransaction,
    quotas: Quotas,
    account: AccountId,
    of: &[(VolumeId, VolumeType)],
) -> Result<()> {
    let pending = volumes(txn, account).await?;
    for (volume, kind) in of {
        let (limit, max) = (Limit::PendingSnapshotsPerVolume, kind.concurrent_snapshots());
        within(limit, count_of(&pending, *volume), max)?;
    }
    within(Limit::PendingSnapshots, pending.len(), quotas.pending_snapshots)
}

/// Whether the account may have as many copies under way as it has now.
///
/// # Errors
/// `LimitExceeded`; those of the database.
pub(super) async fn check_copies(
    txn: &DatabaseTransaction,
    quotas: Quotas,
    account: AccountId,
) -> Result<()> {
    let pending = volumes(txn, account).await?;
    let (limit, max) = (Limit::PendingSnapshotCopies, quotas.pending_snapshot_copies);
    within(limit, count_of(&pending, NO_VOLUME), max)
}

/// The volume of each snapshot of the account's that is under way; a copy has none. Those who count come one after the
/// other, since each has the account's lock until its transaction ends. (A caller has taken it before any volume's:
/// `store::lock`.)
async fn volumes(txn: &DatabaseTransaction, account: AccountId) -> Result<Vec<i64>> {
    use snapshot::Column as C;
    lock::rows::<account::Entity>(txn, account::Column::Id, &[account.to_db()]).await?;
    let pending = snapshot::Entity::find()
        .select_only()
        .column(C::Volume)
        .filter(C::Account.eq(account.to_db()))
        .filter(C::State.eq(Named(SnapshotState::Pending)));
    column(pending, txn).await
}

fn count_of(pending: &[i64], volume: VolumeId) -> usize {
    let volume = volume.to_db();
    pending.iter().filter(|of| **of == volume).count()
}

fn within(limit: Limit, count: usize, max: u64) -> Result<()> {
    if count as u64 <= max {
        return Ok(());
    }
    Err(Error::LimitExceeded { limit, max })
}

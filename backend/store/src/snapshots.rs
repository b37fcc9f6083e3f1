//! Snapshots' rows as operations change them: each function is a part of a transaction that has locked the snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cumulet_domain::{
    Result,
    snapshot::{SnapshotProgress, SnapshotState, TakenSnapshot},
    time::Timestamp,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder as _,
    QuerySelect as _, QueryTrait as _, sea_query::Expr,
};

use super::{batch::load_in, column, failed, lock, pool, rows};
use crate::entity::{
    columns::{Amount, Named, Small},
    host, snapshot, snapshot_permission, volume,
};

/// Snapshots by their numbers and in their order, those that were deleted among them.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn load(conn: &impl ConnectionTrait, ids: &[i64]) -> Result<Vec<snapshot::Model>> {
    let found = load_in!(conn, snapshot, Id, ids).into_iter();
    let mut found: HashMap<i64, snapshot::Model> = found.map(|row| (row.id.to_db(), row)).collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// Keeps others from snapshots until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn lock(txn: &impl ConnectionTrait, ids: &[i64]) -> Result<()> {
    lock::rows::<snapshot::Entity>(txn, snapshot::Column::Id, ids).await
}

/// Says that a host is told to take a snapshot, and over which manifest: that of the volume's newest snapshot that has
/// one, else that of the snapshot that the volume was made of, if that has the same data key or neither has one: of a
/// plain one, an encrypted one would keep plain blocks. Nobody deletes that one meanwhile, so that nobody takes
/// its data away who does not see that it is needed.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn told(
    txn: &impl ConnectionTrait,
    row: &snapshot::Model,
    made_of: Option<i64>,
    host: &str,
) -> Result<()> {
    use snapshot::Column as C;
    let has_data = Condition::all()
        .add(C::State.eq(Named(SnapshotState::Completed)))
        .add(C::Manifest.is_not_null())
        .add(C::Encrypted.eq(row.encrypted))
        .add(C::DeletedAt.is_null());
    let newest = snapshot::Entity::find()
        .filter(has_data.clone().add(C::Volume.eq(row.volume)))
        .order_by_desc(C::CreatedAt)
        .order_by_desc(C::Id)
        .limit(1);
    let mut base = lock::shared(txn, newest).await?;
    if let (None, Some(source)) = (&base, made_of) {
        base = lock::shared(
            txn,
            snapshot::Entity::find().filter(has_data.add(C::Id.eq(source))),
        )
        .await?;
    }
    let update = snapshot::Entity::update_many()
        .col_expr(C::Host, Expr::value(host))
        .col_expr(C::Base, Expr::value(base.and_then(|base| base.manifest)))
        .filter(C::Id.eq(row.id))
        .filter(C::State.eq(Named(SnapshotState::Pending)));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Says that a host is told to make a snapshot of a plain one's data, which is in its `base` from the beginning.
///
/// # Errors
/// Those of the database.
pub async fn told_to_encrypt(txn: &impl ConnectionTrait, row: &snapshot::Model, host: &str) -> Result<()> {
    use snapshot::Column as C;
    let update = snapshot::Entity::update_many()
        .col_expr(C::Host, Expr::value(host))
        .filter(C::Id.eq(row.id))
        .filter(C::State.eq(Named(SnapshotState::Pending)));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// The hosts that can encrypt a snapshot's data, in their order: they take work, were heard of after that moment, and have
/// told what keys are sealed with for them.
///
/// # Errors
/// Those of the database.
pub async fn encrypting(conn: &impl ConnectionTrait, heard_after: Timestamp) -> Result<Vec<String>> {
    let able = pool::at_work(heard_after).filter(host::Column::DiskKey.is_not_null());
    column(able, conn).await
}

/// What hosts were told of snapshots is void: the next is told anew, and over which manifest.
///
/// # Errors
/// Those of the database.
pub async fn untold(txn: &impl ConnectionTrait, ids: &[i64]) -> Result<()> {
    use snapshot::Column as C;
    let update = snapshot::Entity::update_many()
        .col_expr(C::Host, Expr::value(Option::<String>::None))
        .filter(C::Id.is_in(ids.iter().copied()))
        .filter(C::State.eq(Named(SnapshotState::Pending)));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// The same of those that are being taken of a volume.
///
/// # Errors
/// Those of the database.
pub async fn untold_of(txn: &impl ConnectionTrait, volume: i64) -> Result<()> {
    use snapshot::Column as C;
    let update = snapshot::Entity::update_many()
        .col_expr(C::Host, Expr::value(Option::<String>::None))
        .filter(C::Volume.eq(volume))
        .filter(C::State.eq(Named(SnapshotState::Pending)));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Keeps how far a host has come with snapshots that it was told to take. It only grows: a host that begins anew shows
/// what it had.
///
/// # Errors
/// Those of the database.
pub async fn progressed(txn: &impl ConnectionTrait, host: &str, told: &[SnapshotProgress]) -> Result<()> {
    use snapshot::Column as C;
    // Those of one operation are copied together, and have come as far.
    let mut as_far: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
    for each in told {
        as_far.entry(each.percent).or_default().push(each.id.to_db());
    }
    for (percent, ids) in as_far {
        let less = Condition::any()
            .add(C::Progress.is_null())
            .add(C::Progress.lt(Small(percent)));
        let update = snapshot::Entity::update_many()
            .col_expr(C::Progress, Expr::value(Small(percent)))
            .filter(C::Id.is_in(ids))
            .filter(C::Host.eq(host))
            .filter(C::State.eq(Named(SnapshotState::Pending)))
            .filter(less);
        update.exec(txn).await.map_err(failed)?;
    }
    Ok(())
}

/// Keeps what was taken of a snapshot.
///
/// # Errors
/// Those of the database.
pub async fn taken(txn: &impl ConnectionTrait, taken: &TakenSnapshot) -> Result<()> {
    use snapshot::Column as C;
    let update = snapshot::Entity::update_many()
        .col_expr(C::Manifest, Expr::value(taken.manifest.as_str()))
        .col_expr(C::Bytes, Expr::value(Amount(taken.bytes)))
        .filter(C::Id.eq(taken.id.to_db()))
        .filter(C::State.eq(Named(SnapshotState::Pending)));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Ends the taking of snapshots: in words why, where it has failed.
///
/// # Errors
/// Those of the database.
pub async fn close(
    txn: &impl ConnectionTrait,
    ids: &[i64],
    failure: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    use snapshot::Column as C;
    let (state, completed) = match failure {
        None => (SnapshotState::Completed, Some(now.0)),
        Some(_) => (SnapshotState::Error, None),
    };
    let update = snapshot::Entity::update_many()
        .col_expr(C::State, Expr::value(Named(state)))
        .col_expr(C::StateMessage, Expr::value(failure))
        .col_expr(C::CompletedAt, Expr::value(completed))
        .col_expr(C::Base, Expr::value(Option::<String>::None))
        .filter(C::Id.is_in(ids.iter().copied()))
        .filter(C::State.eq(Named(SnapshotState::Pending)));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// What volumes are to be made of that no host has made yet, by the volumes' numbers.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn sources<'v>(
    conn: &impl ConnectionTrait,
    volumes: impl IntoIterator<Item = &'v volume::Model>,
) -> Result<HashMap<i64, snapshot::Model>> {
    let unmade = volumes.into_iter().filter(|row| row.made_at.is_none());
    let wanted: Vec<(i64, i64)> = unmade
        .filter_map(|row| Some((row.id.to_db(), row.snapshot?.to_db())))
        .collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: BTreeSet<i64> = wanted.iter().map(|(_, snapshot)| *snapshot).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let found = load(conn, &ids).await?.into_iter();
    let found: HashMap<i64, snapshot::Model> = found.map(|row| (row.id.to_db(), row)).collect();
    let of = |(volume, snapshot): (i64, i64)| Some((volume, found.get(&snapshot)?.clone()));
    Ok(wanted.into_iter().filter_map(of).collect())
}

/// Snapshots whose data volumes still wait for, by the snapshots' numbers; of a volume that is gone, as long as a
/// snapshot of it is being taken, which is what the volume was to be made of. A root lies over what it was made of for as
/// long as it is one, and is where its instance is.
pub fn awaited() -> sea_orm::Select<volume::Entity> {
    use volume::Column as C;
    let being_taken = snapshot::Entity::find()
        .select_only()
        .column(snapshot::Column::Volume)
        .filter(snapshot::Column::State.eq(Named(SnapshotState::Pending)));
    let waits = Condition::any()
        .add(C::DeletedAt.is_null())
        .add(C::Id.in_subquery(being_taken.into_query()));
    volume::Entity::find()
        .select_only()
        .column(C::Snapshot)
        .filter(C::Snapshot.is_not_null())
        .filter(
            C::MadeAt
                .is_null()
                .or(C::Image.is_not_null().and(C::Host.is_null())),
        )
        .filter(waits)
}

/// Of these volumes, those of which snapshots are being taken.
///
/// # Errors
/// Those of the database.
pub async fn taken_of(conn: &impl ConnectionTrait, volumes: &[i64]) -> Result<BTreeSet<i64>> {
    use snapshot::Column as C;
    let pending = snapshot::Entity::find()
        .select_only()
        .column(C::Volume)
        .filter(C::Volume.is_in(volumes.iter().copied()))
        .filter(C::State.eq(Named(SnapshotState::Pending)));
    Ok(column::<_, i64>(pending, conn).await?.into_iter().collect())
}

/// Whether a host was told to take a snapshot of a volume, and has not answered.
///
/// # Errors
/// Those of the database.
pub async fn is_read_by(conn: &impl ConnectionTrait, volume: i64, host: &str) -> Result<bool> {
    use snapshot::Column as C;
    let told = snapshot::Entity::find()
        .select_only()
        .column(C::Id)
        .filter(C::Volume.eq(volume))
        .filter(C::State.eq(Named(SnapshotState::Pending)))
        .filter(C::Host.eq(host))
        .limit(1);
    Ok(!column::<_, i64>(told, conn).await?.is_empty())
}

/// What of the store of snapshots is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// The manifests of snapshots that are there, of those that volumes wait for, and of those that others are taken
    /// over or made of.
    pub manifests: BTreeSet<String>,
    /// When the oldest of those that are being taken was asked for.
    pub pending_since: Option<Timestamp>,
}

/// Asks for all of it. A row that can't be read is an error: what it needs is not known.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn needed(conn: &impl ConnectionTrait) -> Result<Needed> {
    use snapshot::Column as C;
    // One that is being taken may be hidden, for a copy of a volume that is gone already: until its host has answered,
    // nobody knows what is left of it.
    let is_needed = Condition::any()
        .add(C::DeletedAt.is_null())
        .add(C::State.eq(Named(SnapshotState::Pending)))
        .add(C::Id.in_subquery(awaited().into_query()));
    let rows = rows::all(snapshot::Entity::find().filter(is_needed), conn).await?;
    let pending = rows.iter().filter(|row| row.state.0 == SnapshotState::Pending);
    let pending_since = pending.map(|row| Timestamp(row.created_at)).min();
    let manifests = rows
        .into_iter()
        .flat_map(|row| [row.manifest, row.base])
        .flatten();
    Ok(Needed {
        manifests: manifests.collect(),
        pending_since,
    })
}

/// Some snapshots that were deleted at the horizon or before it, or hidden then, that no volume waits for and nobody
/// takes any more.
///
/// # Errors
/// Those of the database.
pub async fn gone(conn: &impl ConnectionTrait, horizon: Timestamp, most: u64) -> Result<Vec<i64>> {
    use snapshot::Column as C;
    let gone = snapshot::Entity::find()
        .select_only()
        .column(C::Id)
        .filter(C::DeletedAt.lte(horizon.0))
        .filter(C::State.ne(Named(SnapshotState::Pending)))
        .filter(C::Id.not_in_subquery(awaited().into_query()))
        .limit(most);
    column(gone, conn).await
}

/// Deletes the rows of those.
///
/// # Errors
/// Those of the database.
pub async fn forget(conn: &impl ConnectionTrait, horizon: Timestamp, most: u64) -> Result<u64> {
    use snapshot::Column as C;
    let gone = gone(conn, horizon, most).await?;
    if gone.is_empty() {
        return Ok(0);
    }
    let given = snapshot_permission::Entity::delete_many()
        .filter(snapshot_permission::Column::Snapshot.is_in(gone.iter().copied()));
    given.exec(conn).await.map_err(failed)?;
    let delete = snapshot::Entity::delete_many().filter(C::Id.is_in(gone));
    Ok(delete.exec(conn).await.map_err(failed)?.rows_affected)
}

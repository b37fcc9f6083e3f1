//! Volumes that are copies of others: each is to be made of a snapshot of its source that nobody sees, and waits for it.
//! When that has been taken, or could not be, the waiting ends in the same transaction.

use std::collections::HashMap;

use cumulet_domain::{Result, id::VolumeId, snapshot::SnapshotState, volume::VolumeState};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder as _, QuerySelect as _,
    QueryTrait as _, sea_query::Expr,
};

use super::{batch::load_in, column, failed, lock, rows};
use crate::entity::{
    columns::{Key, Named},
    snapshot, volume,
};

/// The volumes that wait for some of these snapshots.
fn waiting(snapshots: &[i64]) -> sea_orm::Select<volume::Entity> {
    use volume::Column as C;
    volume::Entity::find()
        .filter(C::Snapshot.is_in(snapshots.iter().copied()))
        .filter(C::State.eq(Named(VolumeState::Creating)))
        .order_by_asc(C::Id)
}

/// Keeps others from the volumes that wait for snapshots until the transaction ends. (Before the snapshots are locked:
/// [`lock`].)
///
/// # Errors
/// Those of the database.
pub async fn lock_waiting(txn: &impl ConnectionTrait, snapshots: &[i64]) -> Result<()> {
    if !lock::needed(txn) {
        return Ok(());
    }
    let ids = waiting(snapshots).select_only().column(volume::Column::Id);
    let ids: Vec<i64> = column(ids, txn).await?;
    lock::rows::<volume::Entity>(txn, volume::Column::Id, &ids).await
}

/// The volumes that waited for these snapshots are available; or they are in error, in words why.
///
/// # Errors
/// Those of the database.
pub async fn settle(txn: &impl ConnectionTrait, snapshots: &[i64], failure: Option<&str>) -> Result<()> {
    use volume::Column as C;
    let state = match failure {
        None => VolumeState::Available,
        Some(_) => VolumeState::Error,
    };
    let update = volume::Entity::update_many()
        .col_expr(C::State, Expr::value(Named(state)))
        .col_expr(C::StateMessage, Expr::value(failure))
        .filter(C::Snapshot.is_in(snapshots.iter().copied()))
        .filter(C::State.eq(Named(VolumeState::Creating)));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Snapshots that volumes wait for and that nobody takes any more: an earlier program has ended their taking, which does
/// not know who waits.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn forgotten(conn: &impl ConnectionTrait) -> Result<Vec<snapshot::Model>> {
    use snapshot::Column as S;
    let awaited = volume::Entity::find()
        .select_only()
        .column(volume::Column::Snapshot)
        .filter(volume::Column::Snapshot.is_not_null())
        .filter(volume::Column::State.eq(Named(VolumeState::Creating)));
    let over = snapshot::Entity::find()
        .filter(S::Id.in_subquery(awaited.into_query()))
        .filter(S::State.ne(Named(SnapshotState::Pending)));
    rows::all(over, conn).await
}

/// What does not hold of copies that are there and that no host has made, in words: one that is being created waits for
/// a snapshot that is being taken, and one that can be used has a complete one.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn findings(conn: &impl ConnectionTrait) -> Result<Vec<String>> {
    use volume::Column as C;
    let there = [VolumeState::Creating, VolumeState::Available, VolumeState::InUse].map(Named);
    let unmade = volume::Entity::find()
        .filter(C::SourceVolume.is_not_null())
        .filter(C::MadeAt.is_null())
        .filter(C::State.is_in(there));
    let unmade = rows::all(unmade, conn).await?;
    let ids: Vec<i64> = unmade
        .iter()
        .filter_map(|row| row.snapshot.map(Key::to_db))
        .collect();
    let taken = load_in!(conn, snapshot, Id, &ids).into_iter();
    let taken: HashMap<i64, SnapshotState> = taken.map(|row| (row.id.to_db(), row.state.0)).collect();
    let state = |row: &volume::Model| taken.get(&row.snapshot?.to_db()).copied();
    let told = unmade
        .iter()
        .filter_map(|row| amiss(row.id.0, row.state.0, state(row)));
    Ok(told.collect())
}

/// What is the matter with a copy in a state, whose snapshot is in another, or gone.
fn amiss(id: VolumeId, state: VolumeState, of: Option<SnapshotState>) -> Option<String> {
    let wanted = match state {
        VolumeState::Creating => SnapshotState::Pending,
        _ => SnapshotState::Completed,
    };
    let is = of.map_or("gone", SnapshotState::name);
    (of != Some(wanted))
        .then(|| format!("{id} is {state}, and the snapshot that it is to be made of is {is}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_goes_with_its_snapshot() {
        let told = |state, of| amiss(VolumeId::new(1 << 40), state, of).unwrap_or_default();
        for (state, of, words) in [
            (VolumeState::Creating, Some(SnapshotState::Pending), ""),
            (VolumeState::Available, Some(SnapshotState::Completed), ""),
            (VolumeState::InUse, Some(SnapshotState::Completed), ""),
            (
                VolumeState::Creating,
                Some(SnapshotState::Completed),
                "is creating, and the snapshot that it is to be made of is completed",
            ),
            (
                VolumeState::Available,
                Some(SnapshotState::Pending),
                "to be made of is pending",
            ),
            (
                VolumeState::InUse,
                Some(SnapshotState::Error),
                "to be made of is error",
            ),
            (VolumeState::Creating, None, "to be made of is gone"),
        ] {
            let found = told(state, of);
            assert!(
                found.contains(words) && found.is_empty() == words.is_empty(),
                "{state}, {of:?}: {found}"
            );
        }
    }
}

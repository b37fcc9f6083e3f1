//! Instances' rows.

use std::collections::HashMap;

use cumulet_domain::{
    Error, ResourceKind, Result, account::AccountId, id::InstanceId, instance::State,
    metadata::MetadataOptions, time::Timestamp,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use super::{
    batch::{load_in, missing},
    failed, rows,
};
use crate::entity::{instance, metadata_push};

/// The instances that an account's principals can see.
#[derive(Clone, Copy, Debug)]
pub struct Visibility {
    /// Whose they are.
    pub account: AccountId,
    /// Those that have not ended, or after this.
    pub ended_after: Timestamp,
}

impl Visibility {
    /// The condition on rows.
    pub fn condition(self) -> Condition {
        use instance::Column as C;
        let there = Condition::any()
            .add(C::TerminatedAt.is_null())
            .add(C::TerminatedAt.gt(self.ended_after.0));
        Condition::all()
            .add(C::Account.eq(self.account.to_db()))
            .add(there)
    }

    /// Whether one of the account's, in a row that was read before, has gone out of sight since.
    #[inline]
    pub fn has_lost(self, row: &instance::Model) -> bool {
        row.terminated_at.is_some_and(|ended| ended <= self.ended_after.0)
    }
}

/// The instances with these ids, in the ids' order without repetitions, if they can all be seen.
///
/// # Errors
/// `NotFound`, naming all that are not there.
pub async fn by_ids(
    conn: &impl ConnectionTrait,
    visibility: Visibility,
    ids: &[InstanceId],
) -> Result<Vec<instance::Model>> {
    let numbers: Vec<i64> = ids.iter().map(|id| id.to_db()).collect();
    let rows = load_in!(conn, instance, Id, &numbers, visibility.condition());
    let mut rows: HashMap<i64, _> = rows.into_iter().map(|row| (row.id, row)).collect();
    if let Some(id) = missing(ids, |id| rows.contains_key(&id.to_db())) {
        return Err(Error::NotFound {
            kind: ResourceKind::Instance,
            id,
        });
    }
    Ok(numbers.iter().filter_map(|id| rows.remove(id)).collect())
}

/// Keeps others from changing these instances until the transaction ends, on a server; whatever else it
/// changes comes after them. (On SQLite there is one transaction at a time, and nothing to do.)
///
/// # Errors
/// Those of the database.
pub async fn lock(txn: &impl ConnectionTrait, ids: &[i64]) -> Result<()> {
    super::lock::rows::<instance::Entity>(txn, instance::Column::Id, ids).await
}

/// Like [`by_ids`], for a transaction that changes them.
///
/// # Errors
/// Those of [`by_ids`].
pub async fn locked(
    txn: &impl ConnectionTrait,
    visibility: Visibility,
    ids: &[InstanceId],
) -> Result<Vec<instance::Model>> {
    if super::lock::needed(txn) {
        // Nobody holds up what is not theirs.
        let theirs = by_ids(txn, visibility, ids).await?;
        lock(txn, &theirs.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
    }
    by_ids(txn, visibility, ids).await
}

/// One instance.
///
/// # Errors
/// `NotFound`.
pub async fn by_id(
    conn: &impl ConnectionTrait,
    visibility: Visibility,
    id: InstanceId,
) -> Result<instance::Model> {
    let mut rows = by_ids(conn, visibility, &[id]).await?;
    rows.pop()
        .ok_or_else(|| Error::Internal("a row that was there is gone".into()))
}

/// One instance that is not ending or ended, for a transaction that changes it.
///
/// # Errors
/// `NotFound`, `IncorrectState`.
pub async fn living(
    conn: &impl ConnectionTrait,
    visibility: Visibility,
    id: InstanceId,
) -> Result<instance::Model> {
    let mut rows = locked(conn, visibility, &[id]).await?;
    let row = rows
        .pop()
        .ok_or_else(|| Error::Internal("a row that was there is gone".into()))?;
    match state(&row)? {
        State::ShuttingDown | State::Terminated => {
            Err(incorrect_state(&row, "pending, running, stopping or stopped"))
        }
        _ => Ok(row),
    }
}

/// The state of a row.
///
/// # Errors
/// `Internal` where the row is damaged.
#[inline]
pub fn state(row: &instance::Model) -> Result<State> {
    let damaged = || {
        let why = format_args!("its state is {:?}", row.state).to_string();
        rows::damaged("instances", InstanceId::from_db(row.id), why)
    };
    State::from_name(&row.state).ok_or_else(damaged)
}

/// The instance is not in the state that something needs.
pub fn incorrect_state(row: &instance::Model, expected: &str) -> Error {
    Error::IncorrectState {
        kind: ResourceKind::Instance,
        id: InstanceId::from_db(row.id).to_string(),
        state: row.state.clone(),
        expected: expected.into(),
    }
}

/// The options of the metadata service of a row.
///
/// # Errors
/// `Internal` where the row is damaged.
#[inline]
pub fn metadata_options(row: &instance::Model) -> Result<MetadataOptions> {
    Ok(MetadataOptions {
        enabled: row.http_enabled != 0,
        tokens_required: row.http_tokens_required != 0,
        hop_limit: number(row, "http_hop_limit", row.http_hop_limit)?,
        tags: row.http_tags != 0,
    })
}

/// A number of a row as the type that it is outside of the database.
///
/// # Errors
/// `Internal`, naming the row, where it is none.
pub fn number<T: TryFrom<i64>>(row: &instance::Model, column: &str, number: i64) -> Result<T> {
    rows::fit("instances", InstanceId::from_db(row.id), column, number)
}

/// Notes, in the transaction that changed it, that what instances can read has changed: a new revision,
/// and for each a push that waits until its host has confirmed it.
///
/// # Errors
/// Those of the database.
pub async fn bump_metadata(txn: &impl ConnectionTrait, ids: &[i64]) -> Result<()> {
    use instance::Column as C;
    for ids in super::batch::chunks(ids) {
        let update = instance::Entity::update_many()
            .col_expr(C::MetadataRevision, Expr::col(C::MetadataRevision).add(1))
            .filter(C::Id.is_in(ids.iter().copied()));
        update.exec(txn).await.map_err(failed)?;
        let pushes = ids
            .iter()
            .map(|id| metadata_push::ActiveModel { instance: Set(*id) });
        let there = OnConflict::column(metadata_push::Column::Instance)
            .do_nothing_on([metadata_push::Column::Instance])
            .to_owned();
        let insert = metadata_push::Entity::insert_many(pushes).on_conflict(there);
        insert.exec_without_returning(txn).await.map_err(failed)?;
    }
    Ok(())
}

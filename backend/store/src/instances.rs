//! Instances' rows.

use cumulet_domain::{
    Error, ResourceKind, Result, id::InstanceId, instance::State, metadata::MetadataOptions,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use super::{failed, resource};
use crate::{
    authority::Authority,
    entity::{columns::Key, instance, metadata_push},
};

/// Keeps others from changing these instances until the transaction ends, on a server; whatever else it
/// changes comes after them. (On SQLite there is one transaction at a time, and nothing to do.)
///
/// # Errors
/// Those of the database.
pub async fn lock(txn: &impl ConnectionTrait, ids: &[i64]) -> Result<()> {
    super::lock::rows::<instance::Entity>(txn, instance::Column::Id, ids).await
}

/// One instance that is not ending or ended, for a transaction that changes it.
///
/// # Errors
/// `NotFound`, `IncorrectState`.
pub async fn living(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    id: InstanceId,
) -> Result<instance::Model> {
    let mut rows = resource::find_all_locked::<instance::Entity>(conn, by, &[id]).await?;
    let row = rows
        .pop()
        .ok_or_else(|| Error::Internal("a row that was there is gone".into()))?;
    match row.state.0 {
        State::ShuttingDown | State::Terminated => {
            Err(incorrect_state(&row, "pending, running, stopping or stopped"))
        }
        _ => Ok(row),
    }
}

/// The instance is not in the state that something needs.
pub fn incorrect_state(row: &instance::Model, expected: &str) -> Error {
    Error::IncorrectState {
        kind: ResourceKind::Instance,
        id: row.id.0.to_string(),
        state: row.state.0.to_string(),
        expected: expected.into(),
    }
}

/// The options of the metadata service of a row.
#[inline]
pub const fn metadata_options(row: &instance::Model) -> MetadataOptions {
    MetadataOptions {
        enabled: row.http_enabled.0,
        tokens_required: row.http_tokens_required.0,
        hop_limit: row.http_hop_limit.0,
        tags: row.http_tags.0,
    }
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
        let pushes = ids.iter().map(|id| metadata_push::ActiveModel {
            instance: Set(Key::from_db(*id)),
        });
        let there = OnConflict::column(metadata_push::Column::Instance)
            .do_nothing_on([metadata_push::Column::Instance])
            .to_owned();
        let insert = metadata_push::Entity::insert_many(pushes).on_conflict(there);
        insert.exec_without_returning(txn).await.map_err(failed)?;
    }
    Ok(())
}

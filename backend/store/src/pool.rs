//! The pool of Ceph's that volumes are in whose store hosts share: one for all of the cloud, that which a host has told
//! first; and the hosts that reach it.

use cumulet_domain::{Result, time::Timestamp};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder as _, QuerySelect as _,
    sea_query::{Expr, OnConflict},
};

use super::{Invalidates, Store, boxed, column, failed, settings};
use crate::entity::{columns::Flag, host, setting};

/// The cloud's pool, `FSID/POOL`: where there is none yet, it is the one that is told.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn agreed(store: &Store, told: &str) -> Result<String> {
    if let Some(kept) = settings::get(store.read(), settings::RBD_POOL).await? {
        return Ok(kept);
    }
    let told = told.to_owned();
    let write = store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            // Of two that tell theirs at the same time, one is first.
            let row = setting::ActiveModel {
                name: Set(settings::RBD_POOL.into()),
                value: Set(told.as_str().into()),
            };
            let key = [setting::Column::Name];
            let there = OnConflict::columns(key).do_nothing_on(key).to_owned();
            let insert = setting::Entity::insert_many([row]).on_conflict(there);
            insert.exec_without_returning(txn).await.map_err(failed)?;
            let kept = settings::get(txn, settings::RBD_POOL).await?;
            Ok(kept.unwrap_or(told))
        })
    });
    write.await
}

/// The cloud has no pool any more, and no host reaches one, until a host tells of one again. What it was, if there was
/// one.
///
/// # Errors
/// Those of the database.
pub async fn forget(txn: &impl ConnectionTrait) -> Result<Option<String>> {
    let kept = settings::get(txn, settings::RBD_POOL).await?;
    let delete = setting::Entity::delete_by_id(settings::RBD_POOL);
    delete.exec(txn).await.map_err(failed)?;
    let hosts = host::Entity::update_many()
        .col_expr(host::Column::Rbd, Expr::value(Option::<String>::None))
        .filter(host::Column::Rbd.is_not_null());
    hosts.exec(txn).await.map_err(failed)?;
    Ok(kept)
}

/// Whether a host reaches it.
///
/// # Errors
/// Those of the database.
pub async fn is_reached_by(conn: &impl ConnectionTrait, name: &str) -> Result<bool> {
    let found = host::Entity::find()
        .select_only()
        .column(host::Column::Id)
        .filter(host::Column::Id.eq(name))
        .filter(host::Column::Rbd.is_not_null());
    Ok(!column::<_, String>(found, conn).await?.is_empty())
}

/// All hosts that reach it, as they have told last.
///
/// # Errors
/// Those of the database.
pub async fn reaching(conn: &impl ConnectionTrait) -> Result<Vec<String>> {
    let found = host::Entity::find()
        .select_only()
        .column(host::Column::Id)
        .filter(host::Column::Rbd.is_not_null());
    column(found, conn).await
}

/// The hosts that reach it and could be given work on a volume there which no guest has, in their order.
///
/// # Errors
/// Those of the database.
pub async fn keepers(conn: &impl ConnectionTrait, heard_after: Timestamp) -> Result<Vec<String>> {
    let able = at_work(heard_after).filter(host::Column::Rbd.is_not_null());
    column(able, conn).await
}

/// The names, in their order, of the hosts that could be given what any of them would do: they take work, are ready, and
/// were heard of after that moment.
pub(super) fn at_work(heard_after: Timestamp) -> sea_orm::Select<host::Entity> {
    use host::Column as C;
    let stays = Condition::any()
        .add(C::Draining.is_null())
        .add(C::Draining.eq(Flag(false)));
    host::Entity::find()
        .select_only()
        .column(C::Id)
        .filter(C::Enabled.eq(Flag(true)))
        .filter(stays)
        .filter(C::NotReadyReason.is_null())
        .filter(C::LastSeen.gt(heard_after.0))
        .order_by_asc(C::Id)
}

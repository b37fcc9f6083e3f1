//! The data volumes of an instance that is being launched: they come to a host with it, and go on with it to another
//! one. Each function is a part of a transaction that has locked the instance.

use cumulet_domain::{Error, Result, id::InstanceId, time::Timestamp, volume::AttachmentState};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder as _,
    QuerySelect as _, QueryTrait as _, sea_query::Expr,
};

use super::{attachments, failed, rows};
use crate::entity::{columns::Named, volume, volume_attachment};

/// The volumes that come to the instance with its launch: whoever attaches one later waits until that is over.
fn coming(instance: i64) -> sea_orm::sea_query::SelectStatement {
    use volume_attachment::Column as A;
    volume_attachment::Entity::find()
        .select_only()
        .column(A::Volume)
        .filter(A::Instance.eq(instance))
        .filter(A::BootIndex.is_null())
        .filter(A::State.eq(Named(AttachmentState::Attaching)))
        .into_query()
}

/// The volumes of a launch are on a host from now on, which has been charged for them, or kept by it, where hosts share
/// their store, whichever host kept them before.
///
/// # Errors
/// `Unavailable` where they are not as many as were charged; those of the database.
pub async fn bind(txn: &impl ConnectionTrait, instance: i64, host: &str, count: usize) -> Result<()> {
    use volume::Column as C;
    let update = volume::Entity::update_many()
        .col_expr(C::Host, Expr::value(host))
        .col_expr(C::Format, volume::each_made_as())
        .filter(C::Id.in_subquery(coming(instance)))
        .filter(C::Host.is_null().or(volume::is_shared()));
    let bound = update.exec(txn).await.map_err(failed)?.rows_affected;
    if bound == count as u64 {
        return Ok(());
    }
    let id = InstanceId::from_db(instance);
    Err(Error::Unavailable(format!(
        "{bound} of the {count} volumes of {id} could be bound to a host"
    )))
}

/// Those of the volumes that a host may have a file of, in the order of their numbers. What is in a store that hosts share
/// is whole and goes with the instance, whoever has made it.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn bound(conn: &impl ConnectionTrait, instance: i64) -> Result<Vec<volume::Model>> {
    use volume::Column as C;
    let theirs = volume::Entity::find()
        .filter(C::Id.in_subquery(coming(instance)))
        .filter(C::Host.is_not_null())
        .filter(volume::is_local())
        .order_by_asc(C::Id);
    rows::all(theirs, conn).await
}

/// What the host was told of the volumes that are its files is void: what it may have made of them is to be deleted,
/// at the generation that they have from now on.
///
/// # Errors
/// Those of the database.
pub async fn void(txn: &impl ConnectionTrait, instance: i64) -> Result<()> {
    use volume::Column as C;
    let update = volume::Entity::update_many()
        .col_expr(C::Generation, Expr::col(C::Generation).add(1))
        .filter(C::Id.in_subquery(coming(instance)))
        .filter(C::Host.is_not_null())
        .filter(volume::is_local());
    update.exec(txn).await.map(drop).map_err(failed)
}

/// The host has nothing of a volume any more: what it took of it is given back. Its generation is another one than that
/// of the deletion, so that it may come to the same host again.
///
/// # Errors
/// Those of the database.
pub async fn taken_away(txn: &impl ConnectionTrait, row: &volume::Model) -> Result<()> {
    attachments::give_back(txn, row).await?;
    attachments::moved(txn, row, row.state.0, None).await.map(drop)
}

/// The instance runs with its volumes, whose data is made. (A program of before, which places an instance without them,
/// leaves them attaching: then they can be detached.)
///
/// # Errors
/// Those of the database.
pub async fn attached(txn: &impl ConnectionTrait, instance: i64, now: Timestamp) -> Result<()> {
    use volume_attachment::Column as A;
    attachments::all_made(txn, instance, now).await?;
    let there = volume::Entity::find()
        .select_only()
        .column(volume::Column::Id)
        .filter(volume::Column::Host.is_not_null());
    let update = volume_attachment::Entity::update_many()
        .col_expr(A::State, Expr::value(Named(AttachmentState::Attached)))
        .filter(A::Instance.eq(instance))
        .filter(A::BootIndex.is_null())
        .filter(A::Volume.in_subquery(there.into_query()))
        .filter(A::State.eq(Named(AttachmentState::Attaching)));
    update.exec(txn).await.map(drop).map_err(failed)
}

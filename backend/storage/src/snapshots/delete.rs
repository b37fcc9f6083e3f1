//! DeleteSnapshot: it is out of sight at once. Its data goes when nothing needs it any more: not a snapshot that is
//! being taken over it, not a volume that is yet to be made of it. One that is still being taken is so until it is done, as
//! on EBS, and counts among those under way: its host is at it.

use cumulet_core::RequestContext;
use cumulet_domain::{Error, ResourceKind, Result, account::Principal, id::SnapshotId, time::Timestamp};
use cumulet_store::{
    Invalidates,
    authority::{Grant, Permission},
    entity::snapshot,
    failed, images,
    resource::{self, Lock},
    tags,
};
use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait, QueryFilter as _, sea_query::Expr};

use crate::boxed;

/// Deletes a snapshot, taken or not. Others of its volume stay what they are.
///
/// # Errors
/// `NotFound`; `InUse` while an image has it, also one that waits for it. Then nothing has changed.
#[boxed]
pub async fn delete(cx: &RequestContext, who: &Principal, id: SnapshotId) -> Result<()> {
    let grant = cx.authorise(who, Permission::DELETE_SNAPSHOT)?;
    let now = cx.now();
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move { end(txn, &grant, id, now).await })
    });
    write.await
}

/// Takes a snapshot away, in a transaction.
///
/// # Errors
/// Those of [`delete`].
pub(crate) async fn end(
    txn: &DatabaseTransaction,
    grant: &Grant,
    id: SnapshotId,
    now: Timestamp,
) -> Result<()> {
    let row = resource::find::<snapshot::Entity>(txn, grant, id, Lock::Exclusive).await?;
    // An image that gets it has it locked until its own rows are there.
    if let Some(image) = images::user_of(txn, id).await? {
        return Err(Error::InUse {
            kind: ResourceKind::Snapshot,
            id: id.to_string(),
            by: image.to_string(),
        });
    }
    let update = snapshot::Entity::update_many()
        .col_expr(snapshot::Column::DeletedAt, Expr::value(now.0))
        .filter(snapshot::Column::Id.eq(row.id));
    update.exec(txn).await.map_err(failed)?;
    tags::remove(txn, ResourceKind::Snapshot, &[row.id.to_db()]).await
}

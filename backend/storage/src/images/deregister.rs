//! DeregisterImage: no new launches from it; instances that were made from it keep running. Its snapshots stay, or go
//! with it where nothing else has them.

use std::collections::BTreeSet;

use cumulet_core::RequestContext;
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::{ImageId, SnapshotId},
    time::Timestamp,
};
use cumulet_store::{
    authority::{Grant, Permission},
    entity::{image, snapshot},
    failed, images, lock,
    resource::Lock,
    tags,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, sea_query::Expr};

use super::registered;
use crate::{boxed, snapshots};

/// What became of a snapshot of an image that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Done,
    /// Another image has it.
    Skipped,
    /// Who asked may not delete it.
    NotPermitted,
    /// It is gone already.
    Refused,
}

/// Takes an image away from new launches, and its snapshots with it where that is asked for.
///
/// # Errors
/// `NotFound`; `Unusable` where it was deregistered before; `Unauthorized` for another account's public image;
/// `Protected`.
#[boxed]
pub async fn deregister(
    cx: &RequestContext,
    who: &Principal,
    id: ImageId,
    with_snapshots: bool,
) -> Result<Vec<(SnapshotId, Deleted)>> {
    let grant = cx.authorise(who, Permission::DEREGISTER_IMAGE)?;
    let deleter = cx.authorise(who, Permission::DELETE_SNAPSHOT).ok();
    let now = cx.now();
    let write = cx.store.write(move |txn| {
        Box::pin(async move {
            let row = registered(txn, &grant, id, Lock::Exclusive).await?;
            check_unprotected(&row, now)?;
            let update = image::Entity::update_many()
                .col_expr(image::Column::DeregisteredAt, Expr::value(now.0))
                .filter(image::Column::Id.eq(row.id));
            update.exec(txn).await.map_err(failed)?;
            let mut all = Vec::new();
            if with_snapshots {
                for snapshot in snapshots_of(txn, &row).await? {
                    all.push((snapshot, end(txn, deleter.as_ref(), snapshot, now).await?));
                }
            }
            tags::remove(txn, ResourceKind::Image, &[row.id.to_db()]).await?;
            Ok(all)
        })
    });
    write.await
}

/// What keeps an image from its end, whichever call brings that: each says it in its own words.
pub(super) enum Protection {
    /// It is enabled.
    Enabled,
    /// It was disabled, and lasts until then.
    Lasts(Timestamp),
}

/// Whether an image is protected.
pub(super) fn protection(row: &image::Model, now: Timestamp) -> Option<Protection> {
    match (row.protection, row.protected_until) {
        (Some(_), _) => Some(Protection::Enabled),
        (None, Some(until)) if until > now.0 => Some(Protection::Lasts(Timestamp(until))),
        (None, _) => None,
    }
}

fn check_unprotected(row: &image::Model, now: Timestamp) -> Result<()> {
    let reason = match protection(row, now) {
        Some(Protection::Enabled) => "deregistration protection is enabled for it",
        Some(Protection::Lasts(_)) => "its deregistration protection was disabled less than 24 hours ago",
        None => return Ok(()),
    };
    Err(Error::Protected {
        id: row.id.0.to_string(),
        reason: reason.into(),
    })
}

/// The snapshots of an image, which nobody else changes until the transaction ends.
async fn snapshots_of(txn: &DatabaseTransaction, row: &image::Model) -> Result<BTreeSet<SnapshotId>> {
    let id = row.id.to_db();
    let mut disks = images::mappings(txn, &[id]).await?;
    let disks = disks.remove(&id).unwrap_or_default();
    let theirs: BTreeSet<SnapshotId> = disks
        .iter()
        .filter_map(|disk| disk.snapshot.map(|snapshot| snapshot.0))
        .collect();
    let ids: Vec<i64> = theirs.iter().map(|id| id.to_db()).collect();
    lock::rows::<snapshot::Entity>(txn, snapshot::Column::Id, &ids).await?;
    Ok(theirs)
}

async fn end(
    txn: &DatabaseTransaction,
    by: Option<&Grant>,
    id: SnapshotId,
    now: Timestamp,
) -> Result<Deleted> {
    let Some(by) = by else {
        return Ok(Deleted::NotPermitted);
    };
    match snapshots::end(txn, by, id, now).await {
        Ok(()) => Ok(Deleted::Done),
        Err(Error::InUse { .. }) => Ok(Deleted::Skipped),
        Err(Error::Unauthorized { .. }) => Ok(Deleted::NotPermitted),
        Err(Error::NotFound { .. }) => Ok(Deleted::Refused),
        Err(other) => Err(other),
    }
}

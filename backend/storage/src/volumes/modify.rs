//! ModifyVolume: what a volume is to be, and the operation that makes it so; and DescribeVolumesModifications, which has
//! the last modification of each volume that was ever modified.
//!
//! On EC2 a volume that was modified has to wait for six hours, in which its data is moved. Here nothing is moved, so
//! that the time is nothing unless the operator says otherwise (`volumes.modification_cooldown`).

use std::collections::HashMap;

use cumulet_core::{Page, PageRequest, RequestContext};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::{VolumeId, marker},
    time::Timestamp,
    volume::{AttachmentState, ModificationState, VolumeChange, VolumeState},
};
use cumulet_journal::{NewOperation, Operation as _, enqueue};
use cumulet_operations::{Modify, ModifyVolume, volume::target as volume_target};
use cumulet_store::{
    Invalidates, attachments,
    authority::{Grant, Permission},
    batch::{load_in, missing},
    entity::{account, volume, volume_attachment, volume_modification},
    instances, lock, modifications,
    resource::{self, Lock},
};
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QuerySelect, QueryTrait};

use crate::{boxed, volumes::room::room};

/// Makes a volume larger, or changes its type or its performance. It may be attached, also to an instance that starts
/// from it and runs: its guest sees the new size.
///
/// # Errors
/// `NotFound`; `InvalidParameter`, `InvalidCombination`; `IncorrectState`, `Modifying`, `ModifiedLately`;
/// `LimitExceeded`. Then nothing has changed.
#[boxed]
pub async fn modify(
    cx: &RequestContext,
    who: &Principal,
    id: VolumeId,
    change: VolumeChange,
) -> Result<volume_modification::Model> {
    let grant = cx.authorise(who, Permission::MODIFY_VOLUME)?.present();
    let call = cx.clone();
    let asked = cx.ask(ModifyVolume::NAME, &cx.store, Invalidates::Nothing, move |txn| {
        Box::pin(async move { commit(txn, &call, &grant, id, change).await })
    });
    asked.await
}

async fn commit(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    id: VolumeId,
    change: VolumeChange,
) -> Result<volume_modification::Model> {
    // Who has no such volume holds up nobody for it.
    let find = |lock| resource::find::<volume::Entity>(txn, grant, id, lock);
    find(Lock::None).await?;
    if let Some(attached) = attachments::of_volume(txn, id.to_db()).await? {
        instances::lock(txn, &[attached.instance.to_db()]).await?;
    }
    // What is said of it is said under the instance's lock.
    let attached = attachments::of_volume(txn, id.to_db()).await?;
    let outlives =
        |attached: &volume_attachment::Model| attached.is_root() && !attached.delete_on_termination.0;
    lock::rows::<account::Entity>(txn, account::Column::Id, &[grant.account().to_db()]).await?;
    let disk = find(Lock::Exclusive).await?;
    let now = cx.now();
    may_be_modified(txn, cx, &disk, now).await?;
    let target = disk.shape().changed(change)?;
    let more = target.size_gib.saturating_sub(disk.size_gib.0);
    let is_counted = disk.image.is_none() || disk.host.is_some() || attached.as_ref().is_some_and(outlives);
    if more > 0 && is_counted {
        room(txn, cx.config.quotas, grant.account(), (0, more)).await?;
    }
    let begun = modifications::begin(txn, &disk, target, now).await?;
    let (operation, on) = (
        cx.rng.id::<marker::Operation>(),
        volume_target(&disk, disk.generation.0),
    );
    let new = NewOperation::of::<ModifyVolume>(operation, on, &Modify::default(), now)?;
    enqueue(txn, new).await?;
    Ok(begun)
}

/// Whether the volume is in a state for it, and its last modification is over.
async fn may_be_modified(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    disk: &volume::Model,
    now: Timestamp,
) -> Result<()> {
    let incorrect = |state: &str| Error::IncorrectState {
        kind: ResourceKind::Volume,
        id: disk.id.0.to_string(),
        state: state.into(),
        expected: VolumeState::InUse.name().into(),
    };
    if !matches!(disk.state.0, VolumeState::Available | VolumeState::InUse) {
        return Err(incorrect(disk.state.0.name()));
    }
    if let Some(attached) = attachments::of_volume(txn, disk.id.to_db()).await?
        && attached.state.0 != AttachmentState::Attached
    {
        return Err(incorrect(attached.state.0.name()));
    }
    let Some(last) = modifications::find(txn, disk.id.to_db()).await? else {
        return Ok(());
    };
    let volume = disk.id.0.to_string();
    let least = cx.config.modification_cooldown;
    match last.state.0 {
        ModificationState::Modifying => Err(Error::Modifying { volume }),
        ModificationState::Optimizing | ModificationState::Completed
            if now.since(Timestamp(last.started_at)) < least =>
        {
            Err(Error::ModifiedLately { volume, least })
        }
        _ => Ok(()),
    }
}

/// The last modifications of volumes, in the order of the volumes' ids.
///
/// # Errors
/// `NotFound`, naming every id that is not there; `NeverModified`, those of which there is nothing to be told.
#[boxed]
pub async fn describe_modifications(
    cx: &RequestContext,
    who: &Principal,
    ids: &[VolumeId],
    page: PageRequest,
) -> Result<Page<volume_modification::Model>> {
    let grant = cx
        .authorise(who, Permission::DESCRIBE_VOLUMES_MODIFICATIONS)?
        .present();
    let conn = cx.store.read();
    use volume_modification::Column as M;
    let modified = volume_modification::Entity::find()
        .select_only()
        .column(M::Volume);
    let also = Condition::all().add(volume::Column::Id.in_subquery(modified.into_query()));
    let Page { rows, next } = resource::list::<volume::Entity>(conn, &grant, ids, also, &page).await?;
    let named: Vec<i64> = match ids.is_empty() {
        true => rows.iter().map(|row| row.id.to_db()).collect(),
        // All of them are there, whichever are of this page.
        false => ids.iter().map(|id| id.to_db()).collect(),
    };
    let found = load_in!(conn, volume_modification, Volume, &named);
    let mut found: HashMap<i64, _> = found.into_iter().map(|row| (row.volume.to_db(), row)).collect();
    if let Some(volumes) = missing(ids, |id| found.contains_key(&id.to_db())) {
        return Err(Error::NeverModified { volumes });
    }
    Ok(Page {
        rows: rows
            .iter()
            .filter_map(|row| found.remove(&row.id.to_db()))
            .collect(),
        next,
    })
}

//! DeleteVolume: a volume that no host has anything of is gone at once; otherwise its host is told to delete its data.

use cumulet_core::RequestContext;
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::{VolumeId, marker},
    volume::VolumeState,
};
use cumulet_journal::{NewOperation, Operation as _, enqueue};
use cumulet_operations::{DeleteVolume, volume::target as volume_target};
use cumulet_store::{
    Invalidates, attachments,
    authority::{Grant, Permission},
    entity::volume,
    resource::{self, Lock},
    tags,
};
use sea_orm::DatabaseTransaction;

use crate::boxed;

/// Deletes a volume that is attached to nothing; one that is being deleted stays so.
///
/// # Errors
/// `NotFound`, `InUse`; then nothing has changed.
#[boxed]
pub async fn delete(cx: &RequestContext, who: &Principal, id: VolumeId) -> Result<()> {
    let grant = cx.authorise(who, Permission::DELETE_VOLUME)?.present();
    let call = cx.clone();
    let asked = cx.ask(DeleteVolume::NAME, &cx.store, Invalidates::Nothing, move |txn| {
        Box::pin(async move { commit(txn, &call, &grant, id).await })
    });
    asked.await
}

async fn commit(txn: &DatabaseTransaction, cx: &RequestContext, grant: &Grant, id: VolumeId) -> Result<()> {
    // Who has no such volume holds up nobody for it.
    let find = |lock| resource::find::<volume::Entity>(txn, grant, id, lock);
    find(Lock::None).await?;
    let disk = find(Lock::Exclusive).await?;
    if let Some(attached) = attachments::of_volume(txn, id.to_db()).await? {
        return Err(Error::InUse {
            kind: ResourceKind::Volume,
            id: id.to_string(),
            by: attached.instance.0.to_string(),
        });
    }
    if disk.state.0 == VolumeState::Deleting {
        return Ok(());
    }
    let now = cx.now();
    let (state, ended) = match &disk.host {
        Some(_) => (VolumeState::Deleting, None),
        None => (VolumeState::Deleted, Some(now)),
    };
    if !attachments::moved(txn, &disk, state, ended).await? {
        return Err(Error::Unavailable(
            "the volume was changed by another request".into(),
        ));
    }
    if disk.host.is_none() {
        return tags::remove(txn, ResourceKind::Volume, &[id.to_db()]).await;
    }
    let (operation, on) = (
        cx.rng.id::<marker::Operation>(),
        volume_target(&disk, disk.generation.next().0),
    );
    let new = NewOperation::of::<DeleteVolume>(operation, on, &Default::default(), now)?;
    enqueue(txn, new).await.map(drop)
}

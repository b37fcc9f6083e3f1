//! DeleteVolume: a volume that no host has anything of is gone at once; otherwise its host is told to delete its data.

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    crash_point,
    id::{VolumeId, marker},
    volume::VolumeState,
};
use sea_orm::DatabaseTransaction;

use crate::{
    api::Cloud,
    authority::{Grant, Permission},
    boxed,
    conductor::operations::{DeleteVolume, volume_target},
    entity::volume,
    journal::{NewOperation, Operation as _, enqueue},
    store::{
        Invalidates, attachments,
        resource::{self, Lock},
        tags,
    },
};

/// Deletes a volume that is attached to nothing; one that is being deleted stays so.
///
/// # Errors
/// `NotFound`, `InUse`; then nothing has changed.
#[boxed]
pub async fn delete(cloud: &Cloud, who: &Principal, id: VolumeId) -> Result<()> {
    let grant = cloud.authorise(who, Permission::DELETE_VOLUME)?.present();
    crash_point!(DeleteVolume::NAME, "asked");
    let call = cloud.clone();
    let write = cloud.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            commit(txn, &call, &grant, id).await?;
            crash_point!(DeleteVolume::NAME, "written");
            Ok(())
        })
    });
    write.await?;
    crash_point!(DeleteVolume::NAME, "committed");
    cloud.wake.now();
    Ok(())
}

async fn commit(txn: &DatabaseTransaction, cloud: &Cloud, grant: &Grant, id: VolumeId) -> Result<()> {
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
    let now = cloud.now();
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
        cloud.rng.id::<marker::Operation>(),
        volume_target(&disk, disk.generation + 1),
    );
    let new = NewOperation::of::<DeleteVolume>(operation, on, &Default::default(), now)?;
    enqueue(txn, new).await.map(drop)
}

//! DetachVolume: the attachment is to end, and does when the instance's host has confirmed it.

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    crash_point,
    error::Attachment,
    id::{InstanceId, VolumeId, marker},
    volume::{AttachmentState, VolumeState},
};
use sea_orm::DatabaseTransaction;

use super::AttachmentView;
use crate::{
    api::Cloud,
    authority::{Grant, Permission},
    boxed,
    conductor::operations::{DetachVolume, volume_target},
    entity::{columns::Named, instance, volume, volume_attachment},
    journal::{NewOperation, Operation as _, enqueue},
    store::{
        Invalidates, attachments,
        resource::{self, Lock},
    },
};

/// What is to be detached, and where the caller takes it to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Detach {
    pub volume: VolumeId,
    pub instance: Option<InstanceId>,
    pub device: Option<String>,
}

/// Detaches a volume. One whose guest does not let go of it stays busy, and is asked again and again.
///
/// # Errors
/// `NotFound`; `NotAttached`, `IncorrectState`; `RootVolume`. Then nothing has changed.
#[boxed]
pub async fn detach(cloud: &Cloud, who: &Principal, what: Detach) -> Result<AttachmentView> {
    let grant = cloud.authorise(who, Permission::DETACH_VOLUME)?;
    crash_point!(DetachVolume::NAME, "asked");
    let call = cloud.clone();
    let account = Invalidates::Account(who.account);
    let write = cloud.store.write_with(account, move |txn| {
        Box::pin(async move {
            let view = commit(txn, &call, &grant, &what).await?;
            crash_point!(DetachVolume::NAME, "written");
            Ok(view)
        })
    });
    let view = write.await?;
    crash_point!(DetachVolume::NAME, "committed");
    cloud.wake.now();
    Ok(view)
}

async fn commit(
    txn: &DatabaseTransaction,
    cloud: &Cloud,
    grant: &Grant,
    what: &Detach,
) -> Result<AttachmentView> {
    let (id, present) = (what.volume, grant.clone().present());
    resource::find::<volume::Entity>(txn, &present, id, Lock::None).await?;
    if let Some(instance) = what.instance {
        resource::find::<instance::Entity>(txn, grant, instance, Lock::None).await?;
    }
    attachments::lock_with_instance(txn, id.to_db()).await?;
    let disk = resource::find::<volume::Entity>(txn, &present, id, Lock::Exclusive).await?;
    let mut attached = attached(&disk, attachments::of_volume(txn, id.to_db()).await?)?;
    matches(what, &attached)?;
    if attached.is_root() {
        return Err(Error::RootVolume {
            volume: id.to_string(),
            instance: attached.instance.0.to_string(),
        });
    }
    match attached.state.0 {
        AttachmentState::Attaching | AttachmentState::Attached => {}
        // It is asked again and again anyway.
        AttachmentState::Busy => return Ok(AttachmentView::of(&attached)),
        state @ (AttachmentState::Detaching | AttachmentState::Detached) => {
            return Err(incorrect(&disk, state.name()));
        }
    }
    attachments::set_state(txn, &attached, AttachmentState::Detaching, None).await?;
    if !attachments::moved(txn, &disk, VolumeState::InUse, None).await? {
        return Err(Error::Unavailable(
            "the volume was changed by another request".into(),
        ));
    }
    let (operation, on) = (
        cloud.rng.id::<marker::Operation>(),
        volume_target(&disk, disk.generation + 1),
    );
    let new = NewOperation::of::<DetachVolume>(operation, on, &Default::default(), cloud.now())?;
    enqueue(txn, new).await?;
    attached.state = Named(AttachmentState::Detaching);
    Ok(AttachmentView::of(&attached))
}

fn incorrect(disk: &volume::Model, state: &str) -> Error {
    Error::IncorrectState {
        kind: ResourceKind::Volume,
        id: disk.id.0.to_string(),
        state: state.into(),
        expected: VolumeState::InUse.name().into(),
    }
}

fn attached(
    disk: &volume::Model,
    found: Option<volume_attachment::Model>,
) -> Result<volume_attachment::Model> {
    found.ok_or_else(|| incorrect(disk, disk.state.0.name()))
}

/// It is attached where the caller takes it to be.
fn matches(what: &Detach, attached: &volume_attachment::Model) -> Result<()> {
    let other = what
        .instance
        .is_some_and(|instance| instance != attached.instance.0);
    let elsewhere = what
        .device
        .as_ref()
        .is_some_and(|device| *device != attached.device);
    if !other && !elsewhere {
        return Ok(());
    }
    let instance = what.instance.unwrap_or(attached.instance.0).to_string();
    Err(Error::NotAttached {
        volume: what.volume.to_string(),
        to: Attachment {
            instance,
            device: what.device.clone().filter(|_| !other),
        },
    })
}

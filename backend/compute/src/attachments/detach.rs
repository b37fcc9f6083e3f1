//! DetachVolume: the attachment is to end, and does when the instance's host has confirmed it.

use cumulet_core::RequestContext;
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    error::Attachment,
    id::{InstanceId, VolumeId, marker},
    volume::{AttachmentState, VolumeState},
};
use cumulet_journal::{NewOperation, Operation as _, active, enqueue};
use cumulet_operations::{DetachVolume, Launch, instance::subject, volume::target as volume_target};
use cumulet_storage::volumes::AttachmentView;
use cumulet_store::{
    Invalidates, attachments,
    authority::{Grant, Permission},
    entity::{columns::Named, instance, volume, volume_attachment},
    resource::{self, Lock},
};
use sea_orm::DatabaseTransaction;

use crate::boxed;

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
pub async fn detach(cx: &RequestContext, who: &Principal, what: Detach) -> Result<AttachmentView> {
    let grant = cx.authorise(who, Permission::DETACH_VOLUME)?;
    let call = cx.clone();
    let account = Invalidates::Account(who.account);
    let asked = cx.ask(DetachVolume::NAME, &cx.store, account, move |txn| {
        Box::pin(async move { commit(txn, &call, &grant, &what).await })
    });
    asked.await
}

async fn commit(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
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
        // One that comes with a launch is the launch's until that is over.
        AttachmentState::Attaching if is_launched(txn, &attached).await? => {
            return Err(incorrect(&disk, AttachmentState::Attaching.name()));
        }
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
        cx.rng.id::<marker::Operation>(),
        volume_target(&disk, disk.generation.next().0),
    );
    let new = NewOperation::of::<DetachVolume>(operation, on, &Default::default(), cx.now())?;
    enqueue(txn, new).await?;
    attached.state = Named(AttachmentState::Detaching);
    Ok(AttachmentView::of(&attached))
}

/// Whether the instance is being launched.
async fn is_launched(txn: &DatabaseTransaction, attached: &volume_attachment::Model) -> Result<bool> {
    let open = active(txn, subject(attached.instance.to_db())).await?;
    Ok(open.is_some_and(|open| open.kind == Launch::NAME))
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
        .is_some_and(|device| *device != attached.device.0);
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

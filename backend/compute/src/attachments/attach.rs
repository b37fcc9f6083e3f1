//! AttachVolume: the rows of the attachment, and the operation that brings it to the instance's host.

use cumulet_core::RequestContext;
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    error::Limit,
    id::{InstanceId, VolumeId, marker},
    instance::State,
    volume::{AttachmentState, MAX_ATTACHED, VolumeState, check_device},
};
use cumulet_journal::{NewOperation, Operation as _, enqueue};
use cumulet_operations::{AttachVolume, volume::target as volume_target};
use cumulet_storage::volumes::AttachmentView;
use cumulet_store::{
    Invalidates, attachments,
    authority::{Grant, Permission},
    entity::{
        columns::{Device, Flag, Key, Named},
        instance, volume, volume_attachment,
    },
    failed, is_taken, pool,
    resource::{self, Lock},
};
use sea_orm::{DatabaseTransaction, EntityTrait};

use crate::boxed;

/// Attaches a volume to an instance that runs or is stopped.
///
/// # Errors
/// `NotFound`; `NoDeviceName`, `DeviceInUse`; `NotRunning`; `AlreadyAttached`, `IncorrectState`; `ZoneMismatch`,
/// `DataElsewhere`, `OutOfReach`; `LimitExceeded`. Then nothing has changed.
#[boxed]
pub async fn attach(
    cx: &RequestContext,
    who: &Principal,
    volume: VolumeId,
    instance: InstanceId,
    device: &str,
) -> Result<AttachmentView> {
    let grant = cx.authorise(who, Permission::ATTACH_VOLUME)?;
    check_device(device)?;
    let (call, device) = (cx.clone(), device.to_owned());
    let account = Invalidates::Account(who.account);
    let asked = cx.ask(AttachVolume::NAME, &cx.store, account, move |txn| {
        Box::pin(async move { commit(txn, &call, &grant, volume, instance, device).await })
    });
    asked.await
}

async fn commit(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    volume: VolumeId,
    instance: InstanceId,
    device: String,
) -> Result<AttachmentView> {
    let present = grant.clone().present();
    // Who has no such volume holds up no instance for it.
    resource::find::<volume::Entity>(txn, &present, volume, Lock::None).await?;
    let mut found = resource::find_all_locked::<instance::Entity>(txn, grant, &[instance]).await?;
    let row = found
        .pop()
        .ok_or_else(|| resource::not_found::<instance::Entity>(instance.to_string()))?;
    let disk = resource::find::<volume::Entity>(txn, &present, volume, Lock::Exclusive).await?;
    may_meet(&disk, &row)?;
    reaches(txn, &disk, &row).await?;
    let theirs = attachments::of_instance(txn, row.id.to_db()).await?;
    has_room(&theirs, &device)?;
    let now = cx.now();
    let attached = volume_attachment::Model {
        instance: Key(instance),
        device: Device(device),
        volume: Key(volume),
        boot_index: None,
        state: Named(AttachmentState::Attaching),
        delete_on_termination: Flag(false),
        attached_at: now.0,
        generation: None,
    };
    let insert = volume_attachment::Entity::insert(volume_attachment::ActiveModel::from(attached.clone()));
    insert.exec_without_returning(txn).await.map_err(|error| {
        if is_taken(&error) {
            Error::Unavailable("another request has attached it meanwhile".into())
        } else {
            failed(error)
        }
    })?;
    if !attachments::moved(txn, &disk, VolumeState::InUse, None).await? {
        return Err(Error::Unavailable(
            "the volume was changed by another request".into(),
        ));
    }
    let (id, on) = (
        cx.rng.id::<marker::Operation>(),
        volume_target(&disk, disk.generation.next().0),
    );
    enqueue(
        txn,
        NewOperation::of::<AttachVolume>(id, on, &Default::default(), now)?,
    )
    .await?;
    Ok(AttachmentView::of(&attached))
}

/// Whether a volume can come to an instance as both are.
fn may_meet(disk: &volume::Model, row: &instance::Model) -> Result<()> {
    let (volume, instance) = (disk.id.0.to_string(), row.id.0.to_string());
    match disk.state.0 {
        VolumeState::Available => {}
        VolumeState::InUse => return Err(Error::AlreadyAttached { volume }),
        other => {
            return Err(Error::IncorrectState {
                kind: ResourceKind::Volume,
                id: volume,
                state: other.name().into(),
                expected: VolumeState::Available.name().into(),
            });
        }
    }
    if !matches!(row.state.0, State::Running | State::Stopped) {
        return Err(Error::NotRunning { instance });
    }
    if disk.availability_zone != row.availability_zone {
        return Err(Error::ZoneMismatch { volume, instance });
    }
    if !disk.is_shared() && disk.host.is_some() && disk.host != row.host {
        return Err(Error::DataElsewhere { volume, instance });
    }
    Ok(())
}

/// What is in a store that hosts share comes to an instance of any host that reaches it.
async fn reaches(txn: &DatabaseTransaction, disk: &volume::Model, row: &instance::Model) -> Result<()> {
    let (true, Some(host)) = (disk.is_shared(), &row.host) else {
        return Ok(());
    };
    match pool::is_reached_by(txn, host).await? {
        true => Ok(()),
        false => Err(Error::OutOfReach {
            volume: disk.id.0.to_string(),
            instance: row.id.0.to_string(),
        }),
    }
}

/// Whether the instance can have one more, at this device.
fn has_room(theirs: &[volume_attachment::Model], device: &str) -> Result<()> {
    if theirs.iter().any(|other| other.device.0 == device) {
        return Err(Error::DeviceInUse {
            device: device.to_owned(),
        });
    }
    if theirs.len() >= MAX_ATTACHED {
        return Err(Error::LimitExceeded {
            limit: Limit::VolumesPerInstance,
            max: MAX_ATTACHED as u64,
        });
    }
    Ok(())
}

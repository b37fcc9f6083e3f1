//! AttachVolume: the rows of the attachment, and the operation that brings it to the instance's host.

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    crash_point,
    error::Limit,
    id::{InstanceId, VolumeId, marker},
    instance::State,
    volume::{AttachmentState, MAX_ATTACHED, MAX_PLUGGED, VolumeState, check_device},
};
use sea_orm::{DatabaseTransaction, EntityTrait};

use super::AttachmentView;
use crate::{
    api::Cloud,
    authority::{Grant, Permission},
    boxed,
    conductor::operations::{AttachVolume, volume_target},
    entity::{
        columns::{Flag, Key, Named},
        instance, volume, volume_attachment,
    },
    journal::{NewOperation, Operation as _, enqueue},
    store::{
        Invalidates, attachments, failed, instances, is_taken,
        resource::{self, Lock},
    },
};

/// Attaches a volume to an instance that runs or is stopped.
///
/// # Errors
/// `NotFound`; `NoDeviceName`, `DeviceInUse`; `NotRunning`; `AlreadyAttached`, `IncorrectState`; `ZoneMismatch`,
/// `DataElsewhere`; `LimitExceeded`. Then nothing has changed.
#[boxed]
pub async fn attach(
    cloud: &Cloud,
    who: &Principal,
    volume: VolumeId,
    instance: InstanceId,
    device: &str,
) -> Result<AttachmentView> {
    let grant = cloud.authorise(who, Permission::ATTACH_VOLUME)?;
    check_device(device)?;
    crash_point!(AttachVolume::NAME, "asked");
    let (call, device) = (cloud.clone(), device.to_owned());
    let account = Invalidates::Account(who.account);
    let write = cloud.store.write_with(account, move |txn| {
        Box::pin(async move {
            let view = commit(txn, &call, &grant, volume, instance, device).await?;
            crash_point!(AttachVolume::NAME, "written");
            Ok(view)
        })
    });
    let view = write.await?;
    crash_point!(AttachVolume::NAME, "committed");
    cloud.wake.now();
    Ok(view)
}

async fn commit(
    txn: &DatabaseTransaction,
    cloud: &Cloud,
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
    let theirs = attachments::of_instance(txn, row.id).await?;
    has_room(&row, &theirs, &device)?;
    let now = cloud.now();
    let attached = volume_attachment::Model {
        instance: Key(instance),
        device,
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
        cloud.rng.id::<marker::Operation>(),
        volume_target(&disk, disk.generation + 1),
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
    let (volume, instance) = (disk.id.0.to_string(), InstanceId::from_db(row.id).to_string());
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
    if !matches!(instances::state(row)?, State::Running | State::Stopped) {
        return Err(Error::NotRunning { instance });
    }
    if disk.availability_zone != row.availability_zone {
        return Err(Error::ZoneMismatch { volume, instance });
    }
    if disk.host.is_some() && disk.host != row.host {
        return Err(Error::DataElsewhere { volume, instance });
    }
    Ok(())
}

/// Whether the instance can have one more, at this device.
fn has_room(row: &instance::Model, theirs: &[volume_attachment::Model], device: &str) -> Result<()> {
    if theirs.iter().any(|other| other.device == device) {
        return Err(Error::DeviceInUse {
            device: device.to_owned(),
        });
    }
    // What it was started with has ports of its own.
    let since = row.running_since.unwrap_or(i64::MAX);
    let plugged = theirs
        .iter()
        .filter(|other| other.attached_at >= since && !other.is_root());
    for (count, max) in [(theirs.len(), MAX_ATTACHED), (plugged.count(), MAX_PLUGGED)] {
        if count >= max {
            return Err(Error::LimitExceeded {
                limit: Limit::VolumesPerInstance,
                max: max as u64,
            });
        }
    }
    Ok(())
}

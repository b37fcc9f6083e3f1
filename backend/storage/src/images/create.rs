//! CreateImage: snapshots of an instance's volumes, all as they are at one moment, and an image that waits for them. The
//! operation that takes them ends the waiting (`backend/operations/src/create_snapshot.rs`). An instance that runs is off
//! meanwhile, unless its account wants it to go on (`backend/operations/src/create_image.rs`).

use cumulet_core::{RequestContext, tag_room::room as tag_room};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::{ImageId, InstanceId, VolumeId, marker},
    image::ImageState,
    instance::State,
    snapshot::check_description,
    tag::Tag,
    volume::{DiskAsked, Provisioned, at_least},
};
use cumulet_journal::Operation as _;
use cumulet_operations::{CreateImage, CreateSnapshot, image as of_image, snapshot as of_snapshots};
use cumulet_store::{
    Invalidates, attachments,
    authority::{Grant, Permission},
    entity::{
        columns::{Amount, Count, Flag, Key, Named},
        image, instance, snapshot, volume, volume_attachment,
    },
    resource, rows, tags,
};
use sea_orm::{DatabaseTransaction, EntityTrait as _};

use super::{
    AskedDisk,
    disks::{Disk, beside_root, check_count, check_devices, mapping},
    insert::{self, check_name, room},
};
use crate::{
    boxed,
    snapshots::{SnapshotView, insert_rows, room as snapshots_room},
};

/// An image to be made of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CreatedImage {
    pub instance: InstanceId,
    pub name: String,
    pub description: String,
    /// The instance goes on while its snapshots are taken.
    pub no_reboot: bool,
    /// What is to be other than at the instance.
    pub disks: Vec<AskedDisk>,
    pub tags: Vec<Tag>,
    /// Of each snapshot.
    pub snapshot_tags: Vec<Tag>,
}

/// How the snapshots of an instance are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// As its volumes are: nobody writes to them, or what is being written is of no concern.
    AtOnce,
    /// While its guest is off, which is started again afterwards.
    WhileOff,
}

/// Makes an image of an instance.
///
/// # Errors
/// `ImageName`, `ImageNameTaken`; `NotFound`, `IncorrectState`; `InvalidMapping`, `InvalidParameter`,
/// `InvalidCombination`; `LimitExceeded`. Then nothing has changed.
#[boxed]
pub async fn create(cx: &RequestContext, who: &Principal, mut new: CreatedImage) -> Result<ImageId> {
    let grant = cx.authorise(who, Permission::CREATE_IMAGE)?;
    check_name(&new.name)?;
    check_description(&new.description)?;
    check_devices(&new.disks)?;
    for tags in [&mut new.tags, &mut new.snapshot_tags] {
        tags::validate(tags)?;
        tags.sort();
    }
    let call = cx.clone();
    let (name, account) = match new.no_reboot {
        true => (CreateSnapshot::NAME, Invalidates::Nothing),
        false => (CreateImage::NAME, Invalidates::Account(who.account)),
    };
    let asked = cx.ask(name, &cx.store, account, move |txn| {
        Box::pin(async move { make(txn, &call, &grant, &new).await })
    });
    asked.await
}

/// How the snapshots of an instance are taken that is running or stopped.
///
/// # Errors
/// `IncorrectState`.
fn how(row: &instance::Model, no_reboot: bool) -> Result<How> {
    match row.state.0 {
        State::Stopped => Ok(How::AtOnce),
        State::Running if no_reboot => Ok(How::AtOnce),
        State::Running => Ok(How::WhileOff),
        State::Pending | State::Stopping | State::ShuttingDown | State::Terminated => {
            Err(Error::IncorrectState {
                kind: ResourceKind::Instance,
                id: row.id.0.to_string(),
                state: row.state.0.name().into(),
                expected: "running or stopped".into(),
            })
        }
    }
}

async fn make(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    new: &CreatedImage,
) -> Result<ImageId> {
    let mut found = resource::find_all_locked::<instance::Entity>(txn, grant, &[new.instance]).await?;
    let instance = found
        .pop()
        .ok_or_else(|| resource::not_found::<instance::Entity>(new.instance.to_string()))?;
    let how = how(&instance, new.no_reboot)?;
    let theirs = attachments::of_instance(txn, instance.id.to_db()).await?;
    let kept = kept(&theirs, &new.disks)?;
    room(txn, cx, grant.account(), &new.name).await?;
    snapshots_room(txn, cx, grant.account(), kept.len()).await?;
    let ids: Vec<VolumeId> = kept.iter().map(|(attached, _)| attached.volume.0).collect();
    let present = grant.clone().present();
    let volumes = resource::find_all_locked::<volume::Entity>(txn, &present, &ids).await?;
    let row = image_of(txn, cx, grant, new, (&instance, &theirs)).await?;
    let id = row.id.0;
    let mut disks = Vec::with_capacity(volumes.len());
    for ((attached, asked), volume) in kept.iter().zip(&volumes) {
        disks.push(disk_of(attached, *asked, volume)?);
    }
    let description = format!("Created by CreateImage({}) for {id}", new.instance);
    let tagged = volumes.into_iter().map(|row| (row, new.snapshot_tags.clone()));
    let count = new.tags.len() + new.snapshot_tags.len() * disks.len();
    let made = insert_rows(txn, cx, grant, tagged.collect(), &description).await?;
    take(txn, cx, how, &instance, &made).await?;
    for (disk, made) in disks.iter_mut().zip(&made) {
        disk.snapshot = Some(made.id());
    }
    for (device, wanted) in fresh(&theirs, &new.disks) {
        disks.push(beside_root(txn, grant, device, wanted).await?);
    }
    check_count(disks.len())?;
    keep(txn, cx, grant, new, row, &disks).await?;
    tag_room(cx, grant.account(), count).check(txn).await?;
    Ok(id)
}

/// The operation that has the snapshots taken.
async fn take(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    how: How,
    instance: &instance::Model,
    made: &[SnapshotView],
) -> Result<()> {
    let rows: Vec<snapshot::Model> = made.iter().map(|view| view.row.clone()).collect();
    let (id, now) = (cx.rng.id::<marker::Operation>(), cx.now());
    match how {
        How::AtOnce => of_snapshots::ask(txn, &rows, id, now).await,
        How::WhileOff => of_image::ask(txn, instance, &rows, id, now).await,
    }
}

/// Keeps the image, with the size of the root among its disks, and as encrypted as that.
async fn keep(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    new: &CreatedImage,
    mut row: image::Model,
    disks: &[Disk],
) -> Result<()> {
    let root = disks.iter().find(|disk| disk.device == row.root_device.0);
    let root = root.ok_or_else(|| Error::Internal("an instance has no root volume".into()))?;
    row.virtual_bytes = Amount(u64::from(root.size_gib) << 30);
    row.encrypted = root.encrypted.map(Flag);
    let id = row.id.0;
    let disks = disks.iter().map(|disk| disk.row(id)).collect();
    insert::insert(txn, cx, grant, row, disks, &new.tags)
        .await
        .map(drop)
}

type Kept<'a> = (&'a volume_attachment::Model, Option<&'a DiskAsked>);

/// The disks of an instance that are to be in the image, each with what is asked of it.
fn kept<'a>(theirs: &'a [volume_attachment::Model], asked: &'a [AskedDisk]) -> Result<Vec<Kept<'a>>> {
    let mut kept = Vec::with_capacity(theirs.len());
    for attached in theirs {
        let said = asked.iter().find(|disk| disk.device == attached.device.0);
        match said.map(|disk| disk.wanted.as_ref()) {
            None => kept.push((attached, None)),
            Some(Some(wanted)) => kept.push((attached, Some(wanted))),
            Some(None) if attached.is_root() => {
                let device = &attached.device.0;
                return Err(mapping(format!("The root device {device} can't be left out")));
            }
            Some(None) => {}
        }
    }
    Ok(kept)
}

/// The disks that the instance has not.
fn fresh<'a>(
    theirs: &'a [volume_attachment::Model],
    asked: &'a [AskedDisk],
) -> impl Iterator<Item = (&'a str, &'a DiskAsked)> {
    let known = |device: &str| theirs.iter().any(|attached| attached.device.0 == device);
    let asked = asked.iter().filter(move |disk| !known(&disk.device));
    asked.filter_map(|disk| Some((disk.device.as_str(), disk.wanted.as_ref()?)))
}

/// What of a disk is as it is at the instance, and what is asked to be another way. Its snapshot is yet to come.
fn disk_of(
    attached: &volume_attachment::Model,
    asked: Option<&DiskAsked>,
    volume: &volume::Model,
) -> Result<Disk> {
    let nothing = DiskAsked::default();
    let (asked, device) = (asked.unwrap_or(&nothing), &attached.device.0);
    if asked.snapshot.is_some() {
        return Err(mapping(format!(
            "The device {device} has a volume of the instance's, of which the snapshot is taken"
        )));
    }
    if asked.encryption.encrypted == Some(true) && !volume.encrypted.0 {
        return Err(mapping(format!(
            "The device {device} has a volume that is not encrypted, and neither is its snapshot"
        )));
    }
    let least = volume.size_gib.0;
    let of = format_args!("volume '{}'", volume.id.0);
    let size_gib = at_least(asked.size_gib.unwrap_or(least), least.into(), of)?;
    let kind = asked.kind.unwrap_or(volume.volume_type.0);
    let has = |count: Option<Count>| count.filter(|_| kind == volume.volume_type.0).map(|Count(n)| n);
    let provisioned = Provisioned {
        iops: asked.provisioned.iops.or(has(volume.iops)),
        throughput: asked.provisioned.throughput.or(has(volume.throughput)),
    };
    kind.check(size_gib, provisioned)?;
    Ok(Disk {
        device: device.clone(),
        snapshot: None,
        size_gib,
        kind,
        provisioned,
        delete_on_termination: asked
            .delete_on_termination
            .unwrap_or(attached.delete_on_termination.0),
        encrypted: volume.encrypted.0.then_some(true),
    })
}

/// The image's row: as the instance's own image, and waiting.
async fn image_of(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    new: &CreatedImage,
    (of, theirs): (&instance::Model, &[volume_attachment::Model]),
) -> Result<image::Model> {
    let source = rows::one(image::Entity::find_by_id(of.image), txn).await?;
    let source = source.ok_or_else(|| Error::Internal(format!("the image of {} is gone", of.id.0)))?;
    let root = theirs.iter().find(|disk| disk.is_root());
    let root = root.ok_or_else(|| Error::Internal(format!("{} has no root volume", of.id.0)))?;
    Ok(image::Model {
        description: new.description.clone(),
        architecture: source.architecture,
        root_device: root.device.clone(),
        boot_mode: source.boot_mode,
        phase: Some(Named(ImageState::Pending)),
        source_instance: Some(of.id),
        source_image: Some(Key(source.id.0)),
        imds_support: source.imds_support,
        ..insert::fresh(
            cx.rng.id::<marker::Image>(),
            grant.account(),
            new.name.clone(),
            cx.now(),
        )
    })
}

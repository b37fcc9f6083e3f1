//! The disks that an image is to have: what a request asks for each, and what that comes to.

use std::collections::BTreeSet;

use cumulet_domain::{
    Error, Result,
    id::{ImageId, SnapshotId},
    volume::{DiskAsked, MAX_ATTACHED, Provisioned, VolumeType, at_least, check_device},
};
use cumulet_store::{
    authority::Grant,
    entity::{
        columns::{Count, Device, Flag, Key, Named},
        image_mapping, snapshot,
    },
    resource::{self, Lock},
};
use sea_orm::DatabaseTransaction;

use crate::snapshots::check_completed;

/// What a request says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedDisk {
    /// For instance `/dev/sdb`.
    pub device: String,
    /// `None`: there is to be nothing.
    pub wanted: Option<DiskAsked>,
}

/// A disk that an image has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) device: String,
    pub(super) snapshot: Option<SnapshotId>,
    pub(super) size_gib: u32,
    pub(super) kind: VolumeType,
    pub(super) provisioned: Provisioned,
    pub(super) delete_on_termination: bool,
    /// Its snapshot's data is, or it is empty and is to be. `None`: it is not, or says nothing of it.
    pub(super) encrypted: Option<bool>,
}

impl Disk {
    /// Its row.
    pub(super) fn row(&self, image: ImageId) -> image_mapping::Model {
        image_mapping::Model {
            image: Key(image),
            device: Device(self.device.clone()),
            snapshot: self.snapshot.map(Key),
            size_gib: Some(Count(self.size_gib)),
            volume_type: Named(self.kind),
            iops: self.provisioned.iops.map(Count),
            throughput: self.provisioned.throughput.map(Count),
            delete_on_termination: Flag(self.delete_on_termination),
            encrypted: self.encrypted.map(Flag),
        }
    }
}

/// No device twice.
///
/// # Errors
/// `InvalidMapping`.
pub(super) fn check_devices(asked: &[AskedDisk]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match asked.iter().find(|disk| !seen.insert(&disk.device)) {
        None => Ok(()),
        Some(AskedDisk { device, .. }) => Err(mapping(format!(
            "The device '{device}' is used in more than one block-device mapping"
        ))),
    }
}

/// No more than an instance can have.
///
/// # Errors
/// `InvalidMapping`.
pub(super) fn check_count(count: usize) -> Result<()> {
    if count <= MAX_ATTACHED {
        return Ok(());
    }
    Err(mapping(format!(
        "An image has {MAX_ATTACHED} disks at the most, and {count} are asked for"
    )))
}

/// A disk that is made of one of the account's snapshots, or empty. The snapshot stays until the transaction ends.
///
/// # Errors
/// `NotFound`, `IncorrectState` (the snapshot); `EncryptionOfSnapshot`; `InvalidMapping`, `InvalidParameter`, `InvalidCombination`.
pub(super) async fn new(
    txn: &DatabaseTransaction,
    grant: &Grant,
    device: &str,
    wanted: &DiskAsked,
) -> Result<(Disk, Option<snapshot::Model>)> {
    let source = match wanted.snapshot {
        None => None,
        Some(id) => {
            // Another account's would be kept from being deleted.
            let own = grant.clone().own();
            let row = resource::find::<snapshot::Entity>(txn, &own, id, Lock::Shared).await?;
            check_completed(&row)?;
            if wanted.encryption.encrypted.is_some() {
                return Err(Error::EncryptionOfSnapshot);
            }
            Some(row)
        }
    };
    let disk = Disk {
        device: device.into(),
        snapshot: wanted.snapshot,
        size_gib: size(device, wanted, source.as_ref())?,
        kind: wanted.kind.unwrap_or(VolumeType::Gp2),
        provisioned: wanted.provisioned,
        delete_on_termination: wanted.delete_on_termination.unwrap_or(true),
        encrypted: match &source {
            Some(row) => row.encrypted.0.then_some(true),
            None => wanted.encryption.encrypted,
        },
    };
    disk.kind.check(disk.size_gib, disk.provisioned)?;
    Ok((disk, source))
}

/// The same beside the root, whose device has a name of its own.
///
/// # Errors
/// `NoDeviceName`; those of [`new`].
pub(super) async fn beside_root(
    txn: &DatabaseTransaction,
    grant: &Grant,
    device: &str,
    wanted: &DiskAsked,
) -> Result<Disk> {
    check_device(device)?;
    new(txn, grant, device, wanted).await.map(|(disk, _)| disk)
}

fn size(device: &str, wanted: &DiskAsked, source: Option<&snapshot::Model>) -> Result<u32> {
    match (wanted.size_gib, source) {
        (None, None) => Err(mapping(format!(
            "Either snapshot ID or volume size must be provided for: {device}"
        ))),
        (None, Some(row)) => Ok(row.size_gib.0),
        (Some(gib), None) => Ok(gib),
        (Some(gib), Some(row)) => at_least(
            gib,
            row.size_gib.0.into(),
            format_args!("snapshot '{}'", row.id.0),
        ),
    }
}

/// The error of disks that an image can't have.
pub(super) fn mapping(reason: String) -> Error {
    Error::InvalidMapping { reason }
}

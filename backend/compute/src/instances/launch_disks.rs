//! The disks of a launch: what it asks for over what its image says, with the snapshots that they are made of and the
//! sizes that follow from those. The plan of a launch has them; what they cost is asked before anything is made.

use std::collections::{BTreeSet, HashMap};

use cumulet_core::RequestContext;
use cumulet_domain::{
    Error, Result,
    account::AccountId,
    id::{SnapshotId, VolumeId},
    volume::{DataKey, Disk, Provisioned, StaysEncrypted, VolumeStore, at_least, data_key, merge},
};
use cumulet_storage::{encryption, snapshots::check_completed};
use cumulet_store::{
    authority::Grant,
    encryption::by_default,
    entity::{
        account,
        columns::{Count, Flag},
        image,
        secret_text::SecretText,
        snapshot,
    },
    images, lock,
    resource::{self, Lock},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::instances::LaunchSpec;

/// See the module.
#[derive(Debug)]
pub(super) struct LaunchDisks {
    /// The root's.
    pub(super) root: Disk,
    /// How large it is.
    pub(super) root_gib: Count,
    /// What its volumes' data keys are.
    pub(super) root_key: KeyOfDisk,
    /// The others.
    pub(super) data: Vec<DataDisk>,
    /// Where those are.
    pub(super) store: VolumeStore,
}

/// A disk beside the root.
#[derive(Debug)]
pub(super) struct DataDisk {
    pub(super) disk: Disk,
    pub(super) gib: u32,
    pub(super) key: KeyOfDisk,
}

/// What the data key of a disk is, whose volumes each have one that is sealed for them.
#[derive(Debug)]
pub(super) struct KeyOfDisk {
    key: DataKey,
    /// What the disk is made of, where it has its key from that.
    source: Option<snapshot::Model>,
}

impl KeyOfDisk {
    /// By what is asked for and what the account wants.
    fn new(disk: &Disk, by_default: bool, source: Option<&snapshot::Model>) -> Result<Self> {
        let is_encrypted = source.is_some_and(|row| row.encrypted.0);
        let key = data_key(disk.encrypted, by_default, is_encrypted);
        let key = key.map_err(|StaysEncrypted| {
            let device = &disk.device;
            let reason = format!(
                "If specified, the encrypted flag must be true since device {device} has an encrypted snapshot \
                 specified."
            );
            Error::InvalidMapping { reason }
        })?;
        let source = source.filter(|_| key == DataKey::Sources).cloned();
        Ok(KeyOfDisk { key, source })
    }

    /// The key of one of the volumes.
    pub(super) fn of(&self, cx: &RequestContext, volume: VolumeId) -> Result<Option<SecretText>> {
        encryption::of_volume(cx, self.key, self.source.as_ref(), volume)
    }
}

impl LaunchDisks {
    /// Lays the launch's mappings over its image's. Snapshots that are named stay until the transaction ends.
    pub(super) async fn plan(
        txn: &impl ConnectionTrait,
        grant: &Grant,
        image: &image::Model,
        spec: &LaunchSpec,
        store: VolumeStore,
    ) -> Result<Self> {
        let (root, others) = of_image(txn, image).await?;
        let (root, data) = merge(root, others, &spec.mappings)?;
        let root_gib = root_size(image, &root)?;
        // What is not encrypted needs nothing of its root's snapshot.
        let of_root = root.snapshot.filter(|_| image.encrypted == Some(Flag(true)));
        let sources = sources(txn, grant, (of_root, &data), spec).await?;
        let by_default = by_default(txn, grant.account()).await?;
        let root_key = KeyOfDisk::new(&root, by_default, of_root.and_then(|id| sources.get(&id)))?;
        let planned = data.into_iter().map(|disk| {
            let source = disk.snapshot.and_then(|id| sources.get(&id));
            let gib = size(&disk, source)?;
            let key = KeyOfDisk::new(&disk, by_default, source)?;
            Ok(DataDisk { disk, gib, key })
        });
        Ok(LaunchDisks {
            root,
            root_gib,
            root_key,
            data: planned.collect::<Result<_>>()?,
            store,
        })
    }

    /// What counts as volumes of the account, of one instance, and its GiB: what outlives the instance or may.
    pub(super) fn counted(&self) -> (u64, u64) {
        let (count, gib) = (self.data.len() as u64, u64::from(self.data_gib()));
        match self.root.delete_on_termination {
            true => (count, gib),
            false => (count + 1, gib + u64::from(self.root_gib.0)),
        }
    }

    /// The GiB that those beside the root take of their host's disk.
    pub(super) fn host_gib(&self) -> u32 {
        match self.store {
            VolumeStore::Local => self.data_gib(),
            VolumeStore::Rbd => 0,
        }
    }

    /// Whether there are such, and their host has to reach the store that hosts share.
    pub(super) fn are_shared(&self) -> bool {
        !self.store.is_local() && !self.data.is_empty()
    }

    /// The GiB of the disks beside the root, of one instance.
    fn data_gib(&self) -> u32 {
        let sizes = self.data.iter().map(|disk| disk.gib);
        sizes.fold(0, u32::saturating_add)
    }
}

/// The disks that an image says: its root's, and those beside it. One whose root is a file says nothing of any.
async fn of_image(txn: &impl ConnectionTrait, image: &image::Model) -> Result<(Disk, Vec<Disk>)> {
    let mut root = Disk::root(&image.root_device.0);
    if image.manifest.is_none() {
        return Ok((root, Vec::new()));
    }
    let id = image.id.to_db();
    let mut said = images::mappings(txn, &[id]).await?;
    let mut others = Vec::new();
    for row in said.remove(&id).unwrap_or_default() {
        let disk = Disk {
            device: row.device.0,
            snapshot: row.snapshot.map(|id| id.0),
            size_gib: row.size_gib.map(|Count(gib)| gib),
            kind: row.volume_type.0,
            provisioned: Provisioned {
                iops: row.iops.map(|Count(count)| count),
                throughput: row.throughput.map(|Count(count)| count),
            },
            delete_on_termination: row.delete_on_termination.0,
            encrypted: row.encrypted.map(|Flag(encrypted)| encrypted),
            given: None,
        };
        match disk.device == root.device {
            true => root = disk,
            false => others.push(disk),
        }
    }
    Ok((root, others))
}

/// The root's size: what was asked for, or the image's in whole GiB, and not less than that.
fn root_size(image: &image::Model, root: &Disk) -> Result<Count> {
    let least = image.virtual_bytes.0.div_ceil(1 << 30).max(1);
    let gib = match root.size_gib {
        None => {
            u32::try_from(least).map_err(|_| Error::Internal(format!("{} has {least} GiB", image.id.0)))?
        }
        Some(gib) => gib,
    };
    // What is no size of a volume is told as that.
    root.check(gib)?;
    match root.snapshot {
        Some(snapshot) => at_least(gib, least, format_args!("snapshot '{snapshot}'")).map(Count),
        None if u64::from(gib) < least => Err(Error::VolumeTooSmall {
            gib: gib.into(),
            least,
        }),
        None => Ok(Count(gib)),
    }
}

/// The size of a disk beside the root: what was asked for, or its snapshot's, and not less than that.
fn size(disk: &Disk, source: Option<&snapshot::Model>) -> Result<u32> {
    let gib = match (disk.size_gib, source) {
        (Some(gib), Some(source)) => {
            let of = format_args!("snapshot '{}'", source.id.0);
            at_least(gib, source.size_gib.0.into(), of)?
        }
        (Some(gib), None) => gib,
        (None, Some(source)) => source.size_gib.0,
        (None, None) => return Err(Error::Internal("a disk has neither a size nor a snapshot".into())),
    };
    disk.check(gib)?;
    Ok(gib)
}

/// The snapshots that disks are made of: those that the launch names must be in its account's sight, and an image's are
/// for everybody who may launch it.
async fn sources(
    txn: &impl ConnectionTrait,
    grant: &Grant,
    (of_root, data): (Option<SnapshotId>, &[Disk]),
    spec: &LaunchSpec,
) -> Result<HashMap<SnapshotId, snapshot::Model>> {
    let of_data = data.iter().filter_map(|disk| disk.snapshot);
    let all: BTreeSet<SnapshotId> = of_root.into_iter().chain(of_data).collect();
    let mut found = HashMap::new();
    if all.is_empty() {
        return Ok(found);
    }
    // Before the snapshots' (`store::lock`).
    lock_account(txn, grant.account()).await?;
    let named: BTreeSet<SnapshotId> = spec.snapshots().collect();
    for id in all {
        let row = match named.contains(&id) {
            true => resource::find::<snapshot::Entity>(txn, grant, id, Lock::Shared).await?,
            false => of_the_image(txn, id).await?,
        };
        check_completed(&row)?;
        found.insert(id, row);
    }
    Ok(found)
}

async fn lock_account(txn: &impl ConnectionTrait, account: AccountId) -> Result<()> {
    lock::rows::<account::Entity>(txn, account::Column::Id, &[account.to_db()]).await
}

/// The snapshot of an image's disk. It stays for as long as the image, whoever sees it.
async fn of_the_image(txn: &impl ConnectionTrait, id: SnapshotId) -> Result<snapshot::Model> {
    let row = snapshot::Entity::find()
        .filter(snapshot::Column::Id.eq(id.to_db()))
        .filter(snapshot::Column::DeletedAt.is_null());
    let row = lock::shared(txn, row).await?;
    row.ok_or_else(|| resource::not_found::<snapshot::Entity>(id.to_string()))
}

//! The disks of instances as their hosts are told them: the attachments of their volumes.

use std::collections::{BTreeSet, HashMap};

use cumulet_domain::{
    Error, Result,
    image::ImageRef,
    snapshot::SnapshotRef,
    spec::{DiskSource, DiskSpec, Throttle},
    volume::{AttachmentState, Provisioned, VolumeType},
};
use sea_orm::ConnectionTrait;

use cumulet_store::{
    batch::load_in,
    entity::{
        columns::{Count, Flag},
        image, instance, snapshot, volume, volume_attachment,
    },
    snapshots, volumes,
};

/// The disks of some instances.
pub(crate) struct Disks {
    /// By instance, the root's first.
    attached: HashMap<i64, Vec<volume_attachment::Model>>,
    /// By their numbers.
    volumes: HashMap<i64, volume::Model>,
    /// What of these is to be made of a snapshot, by volume.
    sources: HashMap<i64, snapshot::Model>,
}

impl Disks {
    /// Loads them.
    pub(crate) async fn load(conn: &impl ConnectionTrait, rows: &[&instance::Model]) -> Result<Self> {
        let attached = volumes::disks(conn, rows).await?;
        let all = attached.values().flatten();
        let ids: BTreeSet<i64> = all.map(|disk| disk.volume.to_db()).collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        let found = load_in!(conn, volume, Id, &ids);
        let sources = snapshots::sources(conn, &found).await?;
        Ok(Disks {
            attached,
            volumes: found.into_iter().map(|row| (row.id.to_db(), row)).collect(),
            sources,
        })
    }

    /// The disks that an instance is to have: of those beside the root, what is being detached is not among them, and
    /// not what has no room on the host yet, or is still kept by another one. Its attach goes on when it is its turn, and
    /// tells the host then. What comes with a launch gets its room with the instance, which is on no host yet when it is
    /// specified for the one that it is about to come to.
    pub(crate) fn of(&self, row: &instance::Model, image: &image::Model) -> Result<Vec<DiskSpec>> {
        let missing = |what: &str| Error::Internal(format!("it has no {what}"));
        let attached = self
            .attached
            .get(&row.id.to_db())
            .ok_or_else(|| missing("disk"))?;
        let kept = |disk: &&volume_attachment::Model| {
            let volume = self.volumes.get(&disk.volume.to_db());
            let is_there = row.host.is_none()
                || volume.is_none_or(|volume| volume.host.is_some() && volume.host == row.host);
            disk.is_root() || (is_to_be(disk.state.0) && is_there)
        };
        let described = attached.iter().filter(kept).map(|disk| {
            let volume = self.volumes.get(&disk.volume.to_db());
            let encrypted = volume.is_some_and(|volume| volume.encrypted.0);
            let (source, size_gib) = if disk.is_root() {
                (DiskSource::Image(image_ref(image)), row.disk_gib.0.into())
            } else {
                let source = self.sources.get(&disk.volume.to_db());
                data_disk(volume.ok_or_else(|| missing("volume"))?, source)?
            };
            Ok(DiskSpec {
                volume: disk.volume.0,
                device: disk.device.0.clone(),
                source,
                size_gib,
                boot_order: disk.boot_index.map(|Count(index)| index.saturating_add(1)),
                throttle: volume.map_or_else(|| root_of_before(row), throttle),
                encrypted,
            })
        });
        described.collect()
    }
}

impl Disks {
    /// The devices of the volumes that an instance was started with, or is to be: on EC2, too, what comes later is
    /// not in its metadata before the next start.
    pub(crate) fn started_with(&self, row: &instance::Model) -> Vec<String> {
        let since = row.running_since.unwrap_or(i64::MAX);
        let attached = self.attached.get(&row.id.to_db()).into_iter().flatten();
        let there =
            attached.filter(|disk| !disk.is_root() && is_to_be(disk.state.0) && disk.attached_at < since);
        there.map(|disk| disk.device.0.clone()).collect()
    }
}

/// Whether a host is to attach the volume, or to keep it so.
const fn is_to_be(state: AttachmentState) -> bool {
    matches!(state, AttachmentState::Attaching | AttachmentState::Attached)
}

/// A volume as a disk beside the root: made by the first host that gets it, empty or of its snapshot.
fn data_disk(volume: &volume::Model, source: Option<&snapshot::Model>) -> Result<(DiskSource, u64)> {
    if volume.made_at.is_none() && volume.snapshot.is_some() && source.is_none() {
        return Err(Error::Internal(
            "a volume is to be made of a snapshot that is not there".into(),
        ));
    }
    let of = |row: &snapshot::Model| {
        Some(SnapshotRef {
            id: row.id.0,
            manifest: row.manifest.clone()?,
        })
    };
    let source = DiskSource::Volume {
        store: volume.store(),
        format: volume.format(),
        create: volume.made_at.is_none(),
        generation: volume.generation.0,
        from: source.and_then(of),
    };
    Ok((source, volume.size_gib.0.into()))
}

/// What the disk of a volume may do in a second.
fn throttle(volume: &volume::Model) -> Throttle {
    let number = |kept: Option<Count>| kept.map(|Count(number)| number);
    let asked = Provisioned {
        iops: number(volume.iops),
        throughput: number(volume.throughput),
    };
    volume.volume_type.0.throttle(volume.size_gib.0, asked)
}

/// The same of the root of an instance that a program of before has launched, whose volume is not written yet: it is
/// going to be of this type.
fn root_of_before(row: &instance::Model) -> Throttle {
    VolumeType::Gp3.throttle(row.disk_gib.0, Provisioned::default())
}

fn image_ref(row: &image::Model) -> ImageRef {
    ImageRef {
        id: row.id.0,
        sha256: row.manifest.as_ref().unwrap_or(&row.sha256).clone(),
        from_snapshot: row.manifest.is_some(),
        encrypted: row.encrypted == Some(Flag(true)),
        format: row.format.0,
        size_bytes: row.size_bytes.0,
        virtual_bytes: row.virtual_bytes.0,
    }
}

//! The disks of instances as their hosts are told them: the attachments of their volumes.

use std::collections::{BTreeSet, HashMap};

use cumulet_domain::{
    Error, Result,
    id::{ImageId, VolumeId},
    image::{DiskFormat, ImageRef},
    spec::{DiskSource, DiskSpec, Throttle},
    volume::AttachmentState,
};
use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _};

use super::host_specs::CHUNK;
use crate::{
    entity::{columns::Count, image, instance, volume, volume_attachment},
    store::{failed, instances, rows, volumes},
};

/// The disks of some instances.
pub(super) struct Disks {
    /// By instance, the root's first.
    attached: HashMap<i64, Vec<volume_attachment::Model>>,
    /// Those beside the roots.
    volumes: HashMap<i64, volume::Model>,
}

impl Disks {
    /// Loads them. Where no instance has more than its root, volumes cost no query.
    pub(super) async fn load(conn: &impl ConnectionTrait, rows: &[&instance::Model]) -> Result<Self> {
        let attached = volumes::disks(conn, rows).await?;
        let data = attached.values().flatten().filter(|disk| !disk.is_root());
        let ids: BTreeSet<i64> = data.map(|disk| disk.volume.to_db()).collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        let mut volumes = HashMap::new();
        for chunk in ids.chunks(CHUNK) {
            let found = volume::Entity::find().filter(volume::Column::Id.is_in(chunk.iter().copied()));
            let found = found.all(conn).await.map_err(failed)?;
            volumes.extend(found.into_iter().map(|row| (row.id.to_db(), row)));
        }
        Ok(Disks { attached, volumes })
    }

    /// The disks that an instance is to have: of those beside the root, what is being detached is not among them.
    pub(super) fn of(&self, row: &instance::Model, image: &image::Model) -> Result<Vec<DiskSpec>> {
        let missing = |what: &str| Error::Internal(format!("it has no {what}"));
        let attached = self.attached.get(&row.id).ok_or_else(|| missing("disk"))?;
        let kept = |disk: &&volume_attachment::Model| disk.is_root() || is_to_be(disk.state.0);
        let described = attached.iter().filter(kept).map(|disk| {
            let (source, size_gib, throttle) = if disk.is_root() {
                let size = instances::number(row, "disk_gib", row.disk_gib)?;
                (DiskSource::Image(image_ref(image)?), size, Throttle::default())
            } else {
                let volume = self.volumes.get(&disk.volume.to_db());
                data_disk(volume.ok_or_else(|| missing("volume"))?)?
            };
            Ok(DiskSpec {
                volume: VolumeId::from_db(disk.volume.to_db()),
                device: disk.device.clone(),
                source,
                size_gib,
                boot_order: disk.boot_index.map(|Count(index)| index.saturating_add(1)),
                throttle,
            })
        });
        described.collect()
    }
}

impl Disks {
    /// The devices of the volumes that an instance was started with, or is to be: on EC2, too, what comes later is
    /// not in its metadata before the next start.
    pub(super) fn started_with(&self, row: &instance::Model) -> Vec<String> {
        let since = row.running_since.unwrap_or(i64::MAX);
        let attached = self.attached.get(&row.id).into_iter().flatten();
        let there =
            attached.filter(|disk| !disk.is_root() && is_to_be(disk.state.0) && disk.attached_at < since);
        there.map(|disk| disk.device.clone()).collect()
    }
}

/// Whether a host is to attach the volume, or to keep it so.
const fn is_to_be(state: AttachmentState) -> bool {
    matches!(state, AttachmentState::Attaching | AttachmentState::Attached)
}

/// A volume as a disk beside the root: empty, and made by the first host that gets it.
fn data_disk(volume: &volume::Model) -> Result<(DiskSource, u64, Throttle)> {
    let source = DiskSource::Volume {
        format: DiskFormat::Qcow2,
        create: volume.made_at.is_none(),
        generation: rows::fit("volumes", volume.id.0, "generation", volume.generation)?,
    };
    let throttle = Throttle {
        bytes: volume.throughput.map(|Count(mib)| u64::from(mib) << 20),
        operations: volume.iops.map(|Count(operations)| operations.into()),
    };
    Ok((source, volume.size_gib.0.into(), throttle))
}

fn image_ref(row: &image::Model) -> Result<ImageRef> {
    let id = ImageId::from_db(row.id);
    let bytes = |column, bytes| rows::fit("images", id, column, bytes);
    Ok(ImageRef {
        id,
        sha256: row.sha256.clone(),
        format: row.format.parse()?,
        size_bytes: bytes("size_bytes", row.size_bytes)?,
        virtual_bytes: bytes("virtual_bytes", row.virtual_bytes)?,
    })
}

//! Images in the pool that a guest gets or has in hands: made before anybody waits for it, and left alone while the pool is
//! silent. For most of what is done to a guest's devices QEMU waits in its main loop for all that was asked of the pool,
//! and the whole guest stands still meanwhile; so it is asked of one whose pool answers alone, and what the pool can tell
//! itself is not asked of QEMU.

use std::io;

use cumulet_domain::{
    spec::{DiskSource, DiskSpec, InstanceSpec},
    time::Timestamp,
    volume::VolumeStore,
};
use cumulet_hypervisor::{DeviceKey, Devices, DomainDisk, DomainSpec, PluggedDisk, RbdImage};

use super::disks::file;
use crate::{Worker, disks::May, failure::Failure, rbd::Trouble, stores::lost};

impl Worker {
    /// What a guest has, with the sizes of its images that it is to keep. One whose size can't be told is no one that is
    /// large enough: that is a failure.
    pub(super) async fn sized(&self, domain: &DomainSpec, has: &Devices) -> Result<Devices, Failure> {
        let mut sized = has.clone();
        for disk in &mut sized.disks {
            if domain.disks.iter().any(|wanted| wanted.path == disk.path) {
                disk.bytes = self.size_of(disk).await?;
            }
        }
        Ok(sized)
    }

    /// How large a guest's disk is, where that is known; an image's is, or it is a failure.
    pub(crate) async fn size_of(&self, disk: &PluggedDisk) -> Result<Option<u64>, Failure> {
        if disk.bytes.is_some() || RbdImage::of(&disk.path).is_none() {
            return Ok(disk.bytes);
        }
        let found = self.deps.disks.image_bytes(&disk.path).await?;
        let gone = || match self.volumes.of(&disk.path) {
            Some(volume) => lost(volume, VolumeStore::Rbd),
            None => "a disk of the guest is not in the pool of volumes".to_owned(),
        };
        found
            .map(Some)
            .ok_or_else(|| Failure::of(gone(), disk.path.display()))
    }

    /// An empty volume that is to be in the pool is made, unless it is there. A pool may take minutes: whoever calls has
    /// nothing that others wait for.
    pub(super) async fn make_image(
        &self,
        spec: &InstanceSpec,
        wanted: &DiskSpec,
        disk: &DomainDisk,
        until: Timestamp,
    ) -> Result<(), Failure> {
        let DiskSource::Volume {
            create: true,
            from: None,
            store: VolumeStore::Rbd,
            generation,
            ..
        } = &wanted.source
        else {
            return Ok(());
        };
        let turn = self.volumes.turns([wanted.volume]);
        let _turn = self.patiently(spec.id, until, turn).await?;
        self.volumes
            .admit(wanted.volume, *generation, self.deps.clock.now())?;
        let may = May {
            make: true,
            grow: false,
        };
        self.deps.disks.ensure(&file(disk), may).await?;
        Ok(())
    }

    /// That a disk's store is not known to be lost: nobody waits for one that is, in a place that others wait for.
    pub(super) fn not_lost(&self, store: VolumeStore) -> Result<(), Failure> {
        let is_lost = !store.is_local() && self.reaching.problem(self.deps.disks.pool()).is_some();
        if is_lost { Err(silent()) } else { Ok(()) }
    }

    /// That the pool answers now, if the host is told of one. Where it does not, nothing was done, and it is begun again.
    pub(crate) async fn pool_answers(&self) -> Result<(), Failure> {
        let disks = &self.deps.disks;
        if disks.pool().is_none() || disks.reached().await.is_some() {
            return Ok(());
        }
        Err(silent())
    }
}

/// That the pool does not answer.
fn silent() -> Failure {
    Trouble::error(
        io::ErrorKind::TimedOut,
        "nothing is done to a guest that has an image",
    )
    .into()
}

/// Whether a guest has an image, or is to get one.
pub(super) fn has_image(has: &Devices, domain: &DomainSpec) -> bool {
    let has = has.disks.iter().map(|disk| &disk.path);
    let mut all = has.chain(domain.disks.iter().map(|disk| &disk.path));
    all.any(|place| RbdImage::of(place).is_some())
}

/// Whether a device is an image.
pub(super) fn is_image(key: &DeviceKey) -> bool {
    matches!(key, DeviceKey::Disk(place) if RbdImage::of(place).is_some())
}

//! Images in the pool that a guest has in hands, as something is done to its devices. For most of that QEMU waits in its main
//! loop for all that was asked of the pool, and the whole guest stands still meanwhile; so it is asked of a pool that
//! answers alone, and what the pool can tell itself is not asked of QEMU.

use std::io;

use cumulet_domain::volume::VolumeStore;
use cumulet_hypervisor::{DeviceKey, Devices, DomainSpec, PluggedDisk, RbdImage};

use crate::{Worker, failure::Failure, rbd::Trouble, stores::lost};

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

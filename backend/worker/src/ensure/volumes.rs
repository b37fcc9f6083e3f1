//! Volumes of an instance, before its guest gets them and after it has let go of them: none that another guest of this
//! host has in hands, none that was deleted, and files that are a guest's own only for as long as it has them.

use std::borrow::Cow;

use cumulet_domain::{
    image::DiskFormat,
    spec::{DiskSource, InstanceSpec},
};
use cumulet_hypervisor::{DeviceKey, Devices, RbdImage};

use crate::{Worker, failure::Failure, layout::volume_of, volumes::named};

impl Worker {
    /// A specification with the formats that its volumes' files have here: while processes of two versions send commands,
    /// one may call raw what the other has had made as qcow2. A volume has one file. (No version has called an image in the
    /// pool anything else than it is, so that the cluster is not asked.)
    pub(crate) async fn as_made<'s>(&self, spec: &'s InstanceSpec) -> Cow<'s, InstanceSpec> {
        let told = spec
            .disks
            .iter()
            .enumerate()
            .filter_map(|(n, disk)| match &disk.source {
                DiskSource::Volume { format, store, .. } if store.is_local() => {
                    Some((n, disk.volume, *format))
                }
                DiskSource::Volume { .. } | DiskSource::Image(_) => None,
            });
        let told: Vec<_> = told.collect();
        if told.is_empty() || !self.deps.disks.uses_images() {
            return Cow::Borrowed(spec);
        }
        let layout = self.layout.clone();
        let differ = self.layout.blocking(move |files| {
            let mut differ = Vec::new();
            for (n, volume, format) in told {
                let other = match format {
                    DiskFormat::Raw => DiskFormat::Qcow2,
                    DiskFormat::Qcow2 => DiskFormat::Raw,
                };
                if !files.exists(&layout.volume(volume, format))?
                    && files.exists(&layout.volume(volume, other))?
                {
                    differ.push((n, other));
                }
            }
            Ok(differ)
        });
        // Where that can't be told, what is done next says why.
        let differ = differ.await.unwrap_or_default();
        if differ.is_empty() {
            return Cow::Borrowed(spec);
        }
        let mut made = spec.clone();
        for (n, other) in differ {
            if let Some(DiskSource::Volume { format, .. }) =
                made.disks.get_mut(n).map(|disk| &mut disk.source)
            {
                *format = other;
            }
        }
        Cow::Owned(made)
    }

    /// The guest may get the volumes of the specification. Who calls has their turns.
    pub(crate) async fn admit(&self, spec: &InstanceSpec, has: Option<&Devices>) -> Result<(), Failure> {
        let plugged = |volume| {
            let mut disks = has.iter().flat_map(|has| &has.disks);
            disks.any(|disk| self.volumes.of(&disk.path) == Some(volume))
        };
        let mut fresh = Vec::new();
        for (volume, generation) in named(spec) {
            self.volumes.admit(volume, generation, self.deps.clock.now())?;
            if !plugged(volume) {
                fresh.push(volume);
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let open = self.deps.hypervisor.open_disks().await?;
        for volume in fresh {
            match self.volumes.holder(volume, &open) {
                Some(other) if other != spec.id => {
                    return Err(Failure::temporary(format!(
                        "{other} has not let go of {volume} yet"
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A guest has let go of a device. If that is a volume, its file is the host's again, whatever the hypervisor has
    /// made of it; unless another guest has it already. An image is nobody's file.
    pub(super) async fn take_back(&self, key: &DeviceKey) -> Result<(), Failure> {
        let DeviceKey::Disk(path) = key else { return Ok(()) };
        let Some(volume) = self.volumes.of(path) else {
            return Ok(());
        };
        if !self.deps.disks.uses_images() {
            return Ok(());
        }
        let _turn = self.volumes.turns([volume]).await;
        let open = self.deps.hypervisor.open_disks().await?;
        if self.volumes.holder(volume, &open).is_some() {
            return Ok(());
        }
        self.keys.forget(volume);
        if RbdImage::of(path).is_some() {
            return Ok(());
        }
        let (layout, path) = (self.layout.clone(), path.clone());
        let taken = self.layout.blocking(move |_| layout.take_back(&path));
        Ok(taken.await?)
    }

    /// The files of volumes that no guest has in hands are the host's, after whatever has happened while nobody looked.
    pub(crate) async fn take_all_back(&self) -> Result<(), Failure> {
        let open = self.deps.hypervisor.open_disks().await?;
        let (layout, dir) = (self.layout.clone(), self.layout.volumes());
        let taken = self.layout.blocking(move |files| {
            for name in files.names(&dir)? {
                let path = dir.join(name);
                if volume_of(&path).is_some() && !open.iter().any(|(_, held)| *held == path) {
                    layout.take_back(&path)?;
                }
            }
            Ok(())
        });
        Ok(taken.await?)
    }
}

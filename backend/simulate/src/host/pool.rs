//! The pool that simulated hosts share for volumes: which images there are, and how large. A host that reaches it has them
//! beside its own files. Nothing of it keeps two guests from one image, as nothing of Ceph's does: that is watched.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cumulet_domain::{
    id::{HostId, VolumeId},
    message::Power,
};
use cumulet_hypervisor::RbdImage;
use cumulet_worker::{
    MemoryDisks,
    disks::{DiskFile, Disks, May},
    volume_named,
};

use super::Host;
use crate::{outcome::Invariant, world::World};

/// Its name, and that with the id of its cluster.
const NAME: &str = "cumulet";
const REACHED: &str = "00000000-0000-4000-8000-000000000000/cumulet";

/// How often it is looked whether two guests have one image.
const LOOK: Duration = Duration::from_secs(1);

/// The images by their names.
type Images<'a> = MutexGuard<'a, BTreeMap<String, u64>>;

/// What there is of images, each of so many bytes. Clones are the same pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool(Arc<Mutex<BTreeMap<String, u64>>>);

impl Pool {
    fn images(&self) -> Images<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The volumes whose images are whole.
    pub(crate) fn volumes(&self) -> Vec<VolumeId> {
        let images = self.images();
        let named = images.keys().filter_map(|name| volume_named(name));
        let whole = named.filter(|(_, made_by)| made_by.is_none());
        whole.map(|(volume, _)| volume).collect()
    }
}

/// The disks of a host: files, and images where it reaches the pool.
#[derive(Clone, Debug)]
pub(crate) struct HostDisks {
    pub(crate) files: MemoryDisks,
    pub(crate) pool: Option<Pool>,
    pub(crate) host: HostId,
}

impl HostDisks {
    /// The image that a disk is, with all that there are; `None`: it is a file.
    fn image(&self, disk: &Path) -> io::Result<Option<(Images<'_>, String)>> {
        match (RbdImage::of(disk), &self.pool) {
            (None, _) => Ok(None),
            (Some(image), Some(pool)) => Ok(Some((pool.images(), image.name))),
            (Some(_), None) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The same of what is an image for sure.
    fn image_at(&self, place: &Path) -> io::Result<(Images<'_>, String)> {
        let image = self.image(place)?;
        image.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

#[async_trait]
impl Disks for HostDisks {
    fn uses_images(&self) -> bool {
        self.files.uses_images()
    }

    async fn ensure(&self, disk: &DiskFile<'_>, may: May) -> io::Result<bool> {
        let found = self.image(disk.path)?.map(|(mut images, name)| {
            if let Some(bytes) = images.get_mut(&name) {
                if may.grow {
                    *bytes = disk.bytes.max(*bytes);
                }
                return true;
            }
            if may.make {
                images.insert(name, disk.bytes);
            }
            may.make
        });
        match found {
            Some(is_there) => Ok(is_there),
            None => self.files.ensure(disk, may).await,
        }
    }

    async fn make(&self, disk: &DiskFile<'_>) -> io::Result<()> {
        let made = self.image(disk.path)?;
        let is_image = made.is_some_and(|(mut images, name)| {
            images.insert(name, disk.bytes);
            true
        });
        match is_image {
            true => Ok(()),
            false => self.files.make(disk).await,
        }
    }

    async fn flatten(&self, disk: &DiskFile<'_>) -> io::Result<()> {
        self.files.flatten(disk).await
    }

    async fn copy(&self, disk: &DiskFile<'_>, copy: &Path) -> io::Result<()> {
        let found = self.image(disk.path)?;
        match found.map(|(images, name)| images.get(&name).copied()) {
            None => self.files.copy(disk, copy).await,
            Some(None) => Err(io::ErrorKind::NotFound.into()),
            Some(Some(bytes)) => {
                let file = DiskFile {
                    path: copy,
                    bytes,
                    ..*disk
                };
                self.files.make(&file).await
            }
        }
    }

    async fn capacity_gib(&self, dirs: &[PathBuf]) -> io::Result<u64> {
        self.files.capacity_gib(dirs).await
    }

    fn pool(&self) -> Option<&str> {
        self.pool.as_ref().map(|_| NAME)
    }

    async fn reached(&self) -> Option<String> {
        self.pool.as_ref().map(|_| REACHED.to_owned())
    }

    fn partial(&self, disk: &Path) -> PathBuf {
        let Some(image) = RbdImage::of(disk) else {
            return self.files.partial(disk);
        };
        let volume = image.name.split('.').next().unwrap_or_default();
        let name = format!("{volume}.{}.new", self.host);
        RbdImage { name, ..image }.place()
    }

    async fn images(&self) -> io::Result<Vec<String>> {
        let pool = self.pool.as_ref();
        Ok(pool.map_or_else(Vec::new, |pool| pool.images().keys().cloned().collect()))
    }

    async fn has_image(&self, place: &Path) -> io::Result<bool> {
        let (images, name) = self.image_at(place)?;
        Ok(images.contains_key(&name))
    }

    async fn rename_image(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = RbdImage::of(to).ok_or(io::ErrorKind::InvalidInput)?;
        let (mut images, from) = self.image_at(from)?;
        let bytes = images.remove(&from).ok_or(io::ErrorKind::NotFound)?;
        images.entry(to.name).or_insert(bytes);
        Ok(())
    }

    async fn remove_image(&self, place: &Path) -> io::Result<()> {
        let (mut images, name) = self.image_at(place)?;
        images.remove(&name);
        Ok(())
    }
}

/// Watches that no two guests have one image at a time, for as long as the run goes on.
pub(crate) async fn watch(world: Arc<World>, hosts: Vec<Arc<Host>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mut held = BTreeMap::new();
        for host in &hosts {
            for (guest, devices) in host.guests() {
                let disks = devices.disks.into_iter().map(|disk| disk.path);
                let images = disks.filter(|path| guest.power == Power::On && RbdImage::of(path).is_some());
                for image in images {
                    let id = guest.instance;
                    if let Some(other) = held.insert(image.clone(), id) {
                        let words = format_args!("{id} and {other} have {}", image.display());
                        world.violate(Invariant::I11, words);
                    }
                }
            }
        }
    }
}

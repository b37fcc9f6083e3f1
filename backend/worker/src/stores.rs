//! The stores that volumes are in, as a host has to do with them: its own files, and images in the pool that hosts share.
//! Which a volume's is, a command says; which a disk is, its place. Everything that the worker does with either by itself
//! is here, and the rest are the disks' (`disks.rs`).

use std::{
    io,
    path::{Path, PathBuf},
};

use cumulet_domain::{id::VolumeId, image::DiskFormat, spec::DiskSource, volume::VolumeStore};
use cumulet_hypervisor::RbdImage;

use crate::{
    Worker,
    failure::Failure,
    pool::{image_of, volume_named, wholes_of},
    snapshots::BRIEFLY,
    volumes::remove,
};

/// The store that a disk is in: one that is made of an image is a file.
pub(crate) const fn store_of(source: &DiskSource) -> VolumeStore {
    match source {
        DiskSource::Volume { store, .. } => *store,
        DiskSource::Image(_) => VolumeStore::Local,
    }
}

/// That a volume's data is not where it has to be.
pub(crate) fn lost(volume: VolumeId, store: VolumeStore) -> String {
    match store {
        VolumeStore::Local => format!("{volume} is not on this host"),
        VolumeStore::Rbd => format!("{volume} is not in the pool of volumes"),
    }
}

fn not_removed(error: &io::Error) {
    tracing::warn!(%error, "what was made of a volume can't be removed");
}

/// Whether what could not be removed may be a while later. What has ended is still open for half a minute, and a pool that
/// does not answer may do.
fn may_be_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ResourceBusy | io::ErrorKind::TimedOut
    )
}

impl Worker {
    /// Where a volume is. (Without a pool, an image's place is nowhere: see [`Worker::reaches`].)
    pub(crate) fn stored_at(&self, store: VolumeStore, volume: VolumeId, format: DiskFormat) -> PathBuf {
        match store {
            VolumeStore::Local => self.layout.volume(volume, format),
            VolumeStore::Rbd => {
                let pool = self.deps.disks.pool().unwrap_or_default();
                image_of(pool, volume, format).place()
            }
        }
    }

    /// That this host has to do with a store at all. No other try here would change that.
    pub(crate) fn reaches(&self, store: VolumeStore, volume: VolumeId) -> Result<(), Failure> {
        match store {
            VolumeStore::Rbd if self.deps.disks.pool().is_none() => Err(Failure {
                permanent: true,
                ..Failure::temporary(format!(
                    "{volume} is in a pool of volumes, and this host is told of none"
                ))
            }),
            VolumeStore::Local | VolumeStore::Rbd => Ok(()),
        }
    }

    /// Whether there is a disk at a place.
    pub(crate) async fn is_there(&self, place: &Path) -> io::Result<bool> {
        if RbdImage::of(place).is_some() {
            return self.deps.disks.has_image(place).await;
        }
        let path = place.to_owned();
        self.layout.blocking(move |files| files.exists(&path)).await
    }

    /// A disk that is whole gets its place.
    pub(crate) async fn put_in_place(&self, fresh: PathBuf, place: PathBuf) -> io::Result<()> {
        if RbdImage::of(&place).is_some() {
            return self.deps.disks.rename_image(&fresh, &place).await;
        }
        self.layout
            .blocking(move |files| files.rename(&fresh, &place))
            .await
    }

    /// What came of a disk that is not whole is removed: where it has filled its store, nothing else could be kept.
    pub(crate) async fn remove_partial(&self, partial: PathBuf) {
        let removed = match RbdImage::of(&partial) {
            Some(_) => self.deps.disks.remove_image(&partial).await,
            None => self.layout.blocking(move |files| remove(files, &partial)).await,
        };
        removed.unwrap_or_else(|error| not_removed(&error));
    }

    /// Nothing of a volume is left in its store.
    pub(crate) async fn remove_from(&self, store: VolumeStore, volume: VolumeId) -> Result<(), Failure> {
        match store {
            VolumeStore::Local => Ok(self.volumes.remove(volume).await?),
            VolumeStore::Rbd => self.remove_images(volume).await,
        }
    }

    /// Removes a volume's image, and what any host has begun to make of it, until none is left: another host may have
    /// renamed its own meanwhile, and one that is not there by the name that was seen is there by another. One that
    /// somebody has open is tried again: a guest's process that has died does for half a minute.
    async fn remove_images(&self, volume: VolumeId) -> Result<(), Failure> {
        let mut last = Vec::new();
        loop {
            let names = self.images_of(volume).await?;
            if names.is_empty() {
                return Ok(());
            }
            if names == last {
                let text = format!("{volume} is still in the pool of volumes");
                return Err(Failure::of(text, names.join(", ")));
            }
            for name in &names {
                self.remove_named(name).await?;
            }
            last = names;
        }
    }

    /// The names of all images of a volume, whole or not.
    async fn images_of(&self, volume: VolumeId) -> io::Result<Vec<String>> {
        let mut names = self.deps.disks.images().await?;
        names.retain(|name| volume_named(name).is_some_and(|(of, _)| of == volume));
        Ok(names)
    }

    /// Removes an image of a volume that is not to be there any more. One that is not whole may be the whole one by another
    /// name, which is not listed (see `Rbd::remove`), and is removed by that.
    async fn remove_named(&self, name: &str) -> Result<(), Failure> {
        let image = self.image(name.to_owned());
        let mut all = wholes_of(&image);
        all.push(image);
        for image in all {
            let removed = self.deps.disks.remove_image(&image.place()).await;
            removed.map_err(|error| Failure {
                busy: error.kind() == io::ErrorKind::ResourceBusy,
                ..error.into()
            })?;
        }
        Ok(())
    }

    /// The image of this name.
    fn image(&self, name: String) -> RbdImage {
        let pool = self.deps.disks.pool().unwrap_or_default().to_owned();
        RbdImage { pool, name }
    }

    /// Removes images that the last worker of this host was making when it ended; whether all are gone that can be. Those
    /// of other hosts may be under way. What somebody here is at work on again is that one's to replace.
    pub(crate) async fn sweep_images(&self) -> bool {
        let names = match self.deps.disks.images().await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "can't look for what was left in the pool of volumes");
                return false;
            }
        };
        let mut is_swept = true;
        for name in names {
            let Some((volume, Some(host))) = volume_named(&name) else {
                continue;
            };
            if host == self.config.host.0 {
                is_swept &= self.sweep_image(volume, name).await;
            }
        }
        is_swept
    }

    /// Removes such an image, if nobody is at work on its volume; false: it may go later.
    async fn sweep_image(&self, volume: VolumeId, name: String) -> bool {
        let Ok(_turn) = tokio::time::timeout(BRIEFLY, self.volumes.turns([volume])).await else {
            return true;
        };
        tracing::info!(%volume, "removes what was left of a volume in the pool");
        match self.deps.disks.remove_image(&self.image(name).place()).await {
            Ok(()) => true,
            Err(error) => {
                not_removed(&error);
                !may_be_later(&error)
            }
        }
    }
}

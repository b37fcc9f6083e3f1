//! The host's image cache: files named by the hash of their content, or of the manifest of it, which is checked once
//! when they come.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use async_trait::async_trait;
use cumulet_certs::DiskKey;
use cumulet_domain::{image::ImageRef, snapshot::is_digest, time::Timestamp};
use tokio::sync::{Notify, futures::Notified};

use crate::{
    blocking::copying,
    disks::{DiskFile, Disks, Lock},
    layout::Layout,
    prune::{UnusedImages, prune},
    snapshots::{SnapshotData, restore},
};

/// Where images come from.
#[async_trait]
pub trait ImageSource: Send + Sync + 'static {
    /// Puts the image's file at `dest`, which is not there yet, unless it goes on from what is. The content is checked by
    /// the caller.
    ///
    /// # Errors
    /// Those of the files, with what they are about.
    async fn fetch(&self, image: &ImageRef, dest: &Path) -> io::Result<()>;

    /// Whether it goes on from what came of a file before.
    fn goes_on(&self) -> bool {
        false
    }
}

/// Images in a directory of this machine, named by their hash: linked where that works, else copied.
#[derive(Clone, Debug)]
pub struct DirectoryImages {
    dir: PathBuf,
}

impl DirectoryImages {
    /// Images in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        DirectoryImages { dir: dir.into() }
    }
}

#[async_trait]
impl ImageSource for DirectoryImages {
    async fn fetch(&self, image: &ImageRef, dest: &Path) -> io::Result<()> {
        let (source, dest) = (self.dir.join(&image.sha256), dest.to_owned());
        let name = source.display().to_string();
        let copied = copying(move || match fs::hard_link(&source, &dest) {
            Ok(()) => Ok(()),
            Err(_) => fs::copy(&source, &dest).map(drop),
        });
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        copied.await.map_err(named)
    }
}

/// All places that images come from.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'s> {
    /// Files.
    pub(crate) images: &'s dyn ImageSource,
    /// Snapshots, of which files are made.
    pub(crate) snapshots: &'s dyn SnapshotData,
    /// What makes those that are encrypted.
    pub(crate) disks: &'s dyn Disks,
}

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("image {image}: {error}")]
    Source { image: String, error: io::Error },
    #[error("image {image} is not what it should be: {what}")]
    Wrong { image: String, what: String },
    #[error("image cache: {0}")]
    Io(#[from] io::Error),
}

/// The way of an image to the cache, for all who want it: one of them brings it.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    alone: tokio::sync::Mutex<()>,
    landed: Notify,
}

impl Flight {
    /// Whether somebody brings the image.
    pub(crate) fn is_under_way(&self) -> bool {
        self.alone.try_lock().is_err()
    }

    /// Waits until nobody does.
    pub(crate) async fn ended(&self) {
        drop(self.alone.lock().await);
    }

    /// Waits until somebody has brought it, from when this is called on.
    pub(crate) fn landed(&self) -> Notified<'_> {
        self.landed.notified()
    }
}

/// The images of a host.
#[derive(Debug)]
pub(crate) struct ImageCache {
    layout: Layout,
    dir: PathBuf,
    /// One fetch of an image at a time; the others wait for it.
    flights: Mutex<HashMap<String, Weak<Flight>>>,
    /// Held by all who count on what they find, and alone by who removes.
    holds: tokio::sync::RwLock<()>,
}

impl ImageCache {
    pub(crate) fn new(layout: Layout) -> Self {
        ImageCache {
            dir: layout.cache(),
            layout,
            flights: Mutex::default(),
            holds: tokio::sync::RwLock::default(),
        }
    }

    /// While this is held nothing goes: from before an image is asked for until a disk lies over it.
    pub(crate) async fn hold(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.holds.read().await
    }

    /// Removes images that no instance of the host uses any more; their hashes. While a launch fetches or
    /// makes a disk nothing is removed, and nobody waits for that.
    pub(crate) async fn prune(
        &self,
        layout: &Layout,
        limits: UnusedImages,
        now: Timestamp,
    ) -> io::Result<Vec<String>> {
        let Ok(_alone) = self.holds.try_write() else {
            return Ok(Vec::new());
        };
        let of = layout.clone();
        layout.blocking(move |_| prune(&of, limits, now)).await
    }

    /// The path of an image in the cache. A file that has the name was checked when it got it.
    pub(crate) fn path(&self, image: &ImageRef) -> PathBuf {
        self.dir.join(&image.sha256)
    }

    /// Whether an image is here.
    pub(crate) async fn has(&self, image: &ImageRef) -> Result<bool, ImageError> {
        if !is_digest(&image.sha256) {
            return Err(wrong(image, "its hash is no SHA-256".into()));
        }
        let path = self.path(image);
        Ok(self.layout.blocking(move |files| files.exists(&path)).await?)
    }

    /// The image shall be here; its path. `key` is that of one that is encrypted. It may take hours: whoever calls has a
    /// place for that, unless the image is here.
    pub(crate) async fn ensure(
        &self,
        image: &ImageRef,
        key: Option<&DiskKey>,
        sources: Sources<'_>,
    ) -> Result<PathBuf, ImageError> {
        let path = self.path(image);
        if self.has(image).await? {
            return Ok(path);
        }
        let flight = self.flight(image);
        let _alone = flight.alone.lock().await;
        let part = self.dir.join(format!("{}.part", image.sha256));
        // Another flight may have brought it.
        if self.has(image).await? {
            return Ok(path);
        }
        let goes_on = !image.from_snapshot && sources.images.goes_on();
        if !goes_on {
            self.remove(&part).await?;
        }
        if let Err(error) = self.bring(image, key, sources, &part).await {
            // What came of it counts, unless it is of something else.
            if !goes_on || matches!(error, ImageError::Wrong { .. }) {
                drop(self.remove(&part).await);
            }
            return Err(error);
        }
        let named = self.layout.blocking({
            let (path, layout) = (path.clone(), self.layout.clone());
            move |files| {
                // Guests' processes read it as users of their own; nobody writes it.
                layout.lend(&part)?;
                files.rename(&part, &path)
            }
        });
        named.await?;
        flight.landed.notify_waiters();
        Ok(path)
    }

    async fn remove(&self, part: &Path) -> io::Result<()> {
        let part = part.to_owned();
        let removed = self.layout.blocking(move |files| match files.remove(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        removed.await
    }

    /// Brings a file, whose content is then known to be the image's.
    async fn bring(
        &self,
        image: &ImageRef,
        key: Option<&DiskKey>,
        from: Sources<'_>,
        part: &Path,
    ) -> Result<(), ImageError> {
        let source = |error| ImageError::Source {
            image: image.id.to_string(),
            error,
        };
        if image.from_snapshot {
            let to = DiskFile {
                path: part,
                format: image.kept_as(),
                bytes: image.virtual_bytes,
                image: None,
                lock: key.map(|key| Lock { key, below: false }),
            };
            // Each block is compared with its digest.
            let made = restore(from.disks, from.snapshots, &image.sha256, &to);
            return made.await.map_err(source);
        }
        from.images.fetch(image, part).await.map_err(source)?;
        let there = part.to_owned();
        let content = self.layout.copying(move |files| files.digest(&there));
        let (bytes, digest) = content.await?;
        if bytes == image.size_bytes && digest == image.sha256 {
            return Ok(());
        }
        Err(wrong(image, format!("{bytes} bytes with SHA-256 {digest}")))
    }

    /// The way of an image, which all have in common who want it now.
    pub(crate) fn flight(&self, image: &ImageRef) -> Arc<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = flights.get(&image.sha256).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::default();
        flights.insert(image.sha256.clone(), Arc::downgrade(&flight));
        flight
    }
}

fn wrong(image: &ImageRef, what: String) -> ImageError {
    ImageError::Wrong {
        image: image.id.to_string(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use cumulet_domain::{
        id::{HostId, ImageId, SnapshotId},
        image::DiskFormat,
    };

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::{
        disks::FakeDisks,
        files::DiskFiles,
        snapshots::{Content, DirectorySnapshots, NoSnapshots},
    };

    struct Counting(DirectoryImages, AtomicUsize);

    #[async_trait]
    impl ImageSource for Counting {
        async fn fetch(&self, image: &ImageRef, dest: &Path) -> io::Result<()> {
            self.1.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.0.fetch(image, dest).await
        }
    }

    fn image(content: &[u8]) -> ImageRef {
        ImageRef {
            id: ImageId::new(1 << 40),
            from_snapshot: false,
            encrypted: false,
            sha256: hex::encode(Sha256::digest(content)),
            format: DiskFormat::Raw,
            size_bytes: content.len() as u64,
            virtual_bytes: content.len() as u64,
        }
    }

    fn of(images: &Counting) -> Sources<'_> {
        Sources {
            images,
            snapshots: &NoSnapshots,
            disks: &FakeDisks {
                capacity_gib: 1,
                pool: None,
            },
        }
    }

    fn setup() -> (tempfile::TempDir, Counting, Arc<ImageCache>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        let layout = Layout::make(Arc::new(DiskFiles), dir.path(), &HostId("host".into()), None).unwrap();
        let source = Counting(
            DirectoryImages::new(dir.path().join("store")),
            AtomicUsize::new(0),
        );
        let cache = Arc::new(ImageCache::new(layout));
        (dir, source, cache)
    }

    #[tokio::test]
    async fn an_image_is_fetched_once_however_many_want_it() {
        let (dir, source, cache) = setup();
        let image = image(b"content");
        fs::write(dir.path().join("store").join(&image.sha256), b"content").unwrap();
        let want = || cache.ensure(&image, None, of(&source));
        let (one, two, three) = tokio::join!(want(), want(), want());
        for path in [one, two, three] {
            assert_eq!(fs::read(path.unwrap()).unwrap(), b"content");
        }
        assert_eq!(source.1.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_image_that_was_changed_is_refused_and_not_kept() {
        let (dir, source, cache) = setup();
        let image = image(b"content");
        let stored = dir.path().join("store").join(&image.sha256);
        for bad in [&b"CONTENT"[..], b"content and more", b""] {
            fs::write(&stored, bad).unwrap();
            let error = cache.ensure(&image, None, of(&source)).await.unwrap_err();
            assert!(matches!(error, ImageError::Wrong { .. }), "{error}");
            assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 0);
        }
        fs::write(&stored, b"content").unwrap();
        assert!(cache.ensure(&image, None, of(&source)).await.is_ok());
    }

    #[tokio::test]
    async fn an_image_of_a_snapshot_is_made_once_and_what_is_damaged_is_not_kept() {
        let (dir, source, cache) = setup();
        let (disk, at) = (dir.path().join("disk"), dir.path().join("snapshots"));
        fs::write(&disk, vec![7; 4096]).unwrap();
        let snapshots = DirectorySnapshots::new(&at);
        let kept = snapshots
            .take(&SnapshotId::new(1).into(), Content::Plain(&disk), None)
            .await
            .unwrap();
        let image = ImageRef {
            sha256: kept.manifest.clone(),
            from_snapshot: true,
            encrypted: false,
            virtual_bytes: 8192,
            ..image(b"")
        };
        let sources = Sources {
            images: &source,
            snapshots: &snapshots,
            disks: &FakeDisks {
                capacity_gib: 1,
                pool: None,
            },
        };
        let manifest = at.join("manifests").join(&kept.manifest);
        let whole = fs::read(&manifest).unwrap();
        fs::write(&manifest, &whole[..whole.len() - 1]).unwrap();
        let error = cache.ensure(&image, None, sources).await.unwrap_err();
        assert!(matches!(error, ImageError::Source { .. }), "{error}");
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 0);
        fs::write(&manifest, whole).unwrap();
        let path = cache.ensure(&image, None, sources).await.unwrap();
        let content = fs::read(&path).unwrap();
        assert_eq!((content.len(), &content[..4096]), (8192, &[7; 4096][..]));
        fs::remove_dir_all(&at).unwrap();
        assert_eq!(cache.ensure(&image, None, sources).await.unwrap(), path);
        // Nothing at all is an image, too.
        let empty = ImageRef {
            sha256: hex::encode(Sha256::digest(b"")),
            ..image
        };
        let path = cache.ensure(&empty, None, sources).await.unwrap();
        assert_eq!(fs::read(path).unwrap(), vec![0; 8192]);
        assert_eq!(source.1.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_hash_is_no_path() {
        let (_dir, source, cache) = setup();
        for hash in ["../../etc/passwd", "", &"A".repeat(64), &"g".repeat(64)] {
            let image = ImageRef {
                sha256: hash.to_owned(),
                ..image(b"")
            };
            assert!(cache.ensure(&image, None, of(&source)).await.is_err(), "{hash}");
        }
        assert_eq!(source.1.load(Ordering::SeqCst), 0);
    }
}

//! Disks of guests: real ones, files and images in the pool of volumes, and none at all for simulated guests.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use cumulet_certs::{DiskKey, SecretString};
use cumulet_domain::image::DiskFormat;
use cumulet_hypervisor::RbdImage;
use tokio::time::Instant;

use crate::{
    blocking::blocking,
    files::{HostFiles, disk_size, only_owners},
    layout::PARTIAL,
    pool::{Pool, format_of, no_pool},
    program::DEADLINE,
    qemu_img, qemu_nbd, writers,
};

pub use crate::qemu_nbd::Served;

/// How often it is looked whether a file is nobody else's.
const LOOK: Duration = Duration::from_millis(100);

/// A disk's file, or its image in the pool.
#[derive(Clone, Copy, Debug)]
pub struct DiskFile<'a> {
    /// Where it is; an image's place is an [`RbdImage`]'s.
    pub path: &'a Path,
    /// Its format.
    pub format: DiskFormat,
    /// The disk's size.
    pub bytes: u64,
    /// What it lies over, and its format: only one of qcow2 does.
    pub image: Option<(&'a Path, DiskFormat)>,
    /// What it is encrypted with: only one of qcow2 is. `None`: it is plain, and so is what it lies over.
    pub lock: Option<Lock<'a>>,
}

/// What an encrypted disk is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Lock<'a> {
    /// Its key.
    pub key: &'a DiskKey,
    /// What it lies over is encrypted with it, too.
    pub below: bool,
}

impl DiskFile<'_> {
    /// What it is opened with, where it is encrypted.
    pub(crate) fn passphrase(&self) -> Option<SecretString> {
        self.lock.map(|lock| lock.key.passphrase())
    }
}

/// What may be done for a disk.
#[derive(Clone, Copy, Debug)]
pub struct May {
    /// One that is not there is made.
    pub make: bool,
    /// One that is too small is made larger: no guest has it.
    pub grow: bool,
}

/// Makes disks. What is made is never made again: its content survives stop and start.
#[async_trait]
pub trait Disks: Send + Sync + 'static {
    /// Whether disks are made over images, which then have to be here.
    fn uses_images(&self) -> bool;

    /// There shall be such a disk; whether it is there. What is on one that is there is left alone.
    async fn ensure(&self, disk: &DiskFile<'_>, may: May) -> io::Result<bool>;

    /// Makes an empty disk. What has its path is replaced.
    async fn make(&self, disk: &DiskFile<'_>) -> io::Result<()>;

    /// A disk that no guest has lies over nothing from now on: it has itself what it took from the image below. Cut off, it
    /// is what it was, and can be done again. (Disks that are no files lie over nothing.)
    async fn flatten(&self, _: &DiskFile<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Makes a raw copy of a disk that no guest has, with holes where that has nothing.
    async fn copy(&self, disk: &DiskFile<'_>, copy: &Path) -> io::Result<()>;

    /// Serves a disk that no guest has, an encrypted one or an image, in the clear, for one client: `write`, to be written.
    /// (Disks that are no files have nothing to serve.)
    async fn serve(&self, _: &DiskFile<'_>, _: bool) -> io::Result<Served> {
        Served::nothing()
    }

    /// A file that a guest's process has written, while the guest goes on, is the host's alone from now on: whoever has it
    /// open to write is waited for a while. Before this nothing of QEMU's may open it for the host. (Disks that are no files
    /// are nobody's.)
    async fn reclaim(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// What there is for disks in these directories of one file system, in GiB: what they take already and what is free.
    async fn capacity_gib(&self, dirs: &[PathBuf]) -> io::Result<u64>;

    /// The pool of volumes that hosts share, by its name; `None`: this host is told of none.
    fn pool(&self) -> Option<&str> {
        None
    }

    /// That pool with its cluster's id, `FSID/POOL`, if it is reached now. An answer takes seconds at the most.
    async fn reached(&self) -> Option<String> {
        None
    }

    /// The place of a disk while it is being made that is to be here when it is whole.
    fn partial(&self, disk: &Path) -> PathBuf {
        disk.with_extension(PARTIAL)
    }

    /// The names of all images in the pool. (Where there is no pool there are none, and nothing is done with any.)
    async fn images(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Whether there is an image.
    async fn has_image(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    /// How large the disk in a volume's image is; `None`: there is no such image. Its pool is asked, and no guest's process.
    async fn image_bytes(&self, _: &Path) -> io::Result<Option<u64>> {
        Err(no_pool())
    }

    /// An image that is whole gets its own name. One that is there has been made by another host, and stays.
    async fn rename_image(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Removes an image; one that is not there is fine. `ResourceBusy` where somebody has it open.
    async fn remove_image(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Disks for QEMU.
#[derive(Clone, Debug)]
pub struct QemuDisks {
    program: PathBuf,
    pool: Option<Pool>,
}

impl QemuDisks {
    /// Disks made by this `qemu-img`.
    pub fn new(qemu_img: impl Into<PathBuf>) -> Self {
        QemuDisks {
            program: qemu_img.into(),
            pool: None,
        }
    }

    /// The same with images in this pool.
    pub fn with_pool(self, pool: Option<Pool>) -> Self {
        QemuDisks { pool, ..self }
    }

    /// The image that a disk is, and where; `None`: it is a file.
    fn image(&self, disk: &Path) -> io::Result<Option<(&Pool, RbdImage)>> {
        let Some(image) = RbdImage::of(disk) else {
            return Ok(None);
        };
        self.pool
            .as_ref()
            .map(|pool| Some((pool, image)))
            .ok_or_else(no_pool)
    }

    /// That a place is an image's.
    fn image_at(&self, place: &Path) -> io::Result<(&Pool, RbdImage)> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "it is no image's place");
        self.image(place)?.ok_or_else(none)
    }
}

#[async_trait]
impl Disks for QemuDisks {
    fn uses_images(&self) -> bool {
        true
    }

    async fn ensure(&self, disk: &DiskFile<'_>, may: May) -> io::Result<bool> {
        if let Some((pool, image)) = self.image(disk.path)? {
            return pool.ensure(&self.program, &image, disk, may).await;
        }
        let (path, format) = (disk.path.to_owned(), disk.format);
        if let Some(bytes) = blocking(move || disk_size(&path, format)).await? {
            if may.grow && bytes < disk.bytes {
                qemu_img::resize(&self.program, disk, None).await?;
            }
            return Ok(true);
        }
        if !may.make {
            return Ok(false);
        }
        // A disk is there as a whole or not at all.
        let fresh = self.partial(disk.path);
        let made = DiskFile {
            path: &fresh,
            ..*disk
        };
        if let Err(error) = self.make(&made).await {
            // What came of it would take the room that something else needs. Where it can't go, the next one replaces it.
            drop(blocking(move || fs::remove_file(&fresh)).await);
            return Err(error);
        }
        let path = disk.path.to_owned();
        blocking(move || fs::rename(&fresh, &path)).await?;
        Ok(true)
    }

    async fn make(&self, disk: &DiskFile<'_>) -> io::Result<()> {
        if let Some((pool, image)) = self.image(disk.path)? {
            return pool.make(&self.program, &image, disk).await;
        }
        qemu_img::create(&self.program, disk, None).await?;
        let path = disk.path.to_owned();
        blocking(move || only_owners(&path, 0o600)).await
    }

    async fn flatten(&self, disk: &DiskFile<'_>) -> io::Result<()> {
        qemu_img::flatten(&self.program, disk).await
    }

    async fn copy(&self, disk: &DiskFile<'_>, copy: &Path) -> io::Result<()> {
        qemu_img::copy(&self.program, disk, self.pool.as_ref(), copy).await?;
        let copy = copy.to_owned();
        blocking(move || only_owners(&copy, 0o600)).await
    }

    async fn serve(&self, disk: &DiskFile<'_>, write: bool) -> io::Result<Served> {
        // Of the same package.
        let program = self.program.with_file_name("qemu-nbd");
        qemu_nbd::serve(&program, disk, self.pool.as_ref(), write).await
    }

    async fn reclaim(&self, path: &Path) -> io::Result<()> {
        let until = Instant::now() + DEADLINE;
        loop {
            let file = path.to_owned();
            if blocking(move || writers::take(&file)).await? {
                return Ok(());
            }
            if Instant::now() > until {
                tracing::error!(
                    file = %path.display(),
                    "ALARM: a guest's process does not let go of a file that it has written: it may have been taken over"
                );
                return Err(io::Error::other("it is still open to be written"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn capacity_gib(&self, dirs: &[PathBuf]) -> io::Result<u64> {
        let dirs = dirs.to_owned();
        blocking(move || {
            let mut bytes = 0;
            if let Some(first) = dirs.first() {
                let system = nix::sys::statvfs::statvfs(first)?;
                bytes = system.blocks_available() * system.fragment_size();
            }
            for dir in &dirs {
                bytes += allocated(dir)?;
            }
            Ok(bytes >> 30)
        })
        .await
    }

    fn pool(&self) -> Option<&str> {
        self.pool.as_ref().map(Pool::name)
    }

    async fn reached(&self) -> Option<String> {
        let reached = self.pool.as_ref()?.rbd().reached().await;
        reached
            .inspect_err(|error| tracing::warn!(%error, "the pool of volumes is not reached"))
            .ok()
    }

    fn partial(&self, disk: &Path) -> PathBuf {
        match RbdImage::of(disk).zip(self.pool.as_ref()) {
            Some((image, pool)) => pool.partial(&image).place(),
            None => disk.with_extension(PARTIAL),
        }
    }

    async fn images(&self) -> io::Result<Vec<String>> {
        match &self.pool {
            Some(pool) => pool.rbd().names().await,
            None => Ok(Vec::new()),
        }
    }

    async fn has_image(&self, place: &Path) -> io::Result<bool> {
        let (pool, image) = self.image_at(place)?;
        Ok(pool.rbd().bytes(&image).await?.is_some())
    }

    async fn image_bytes(&self, place: &Path) -> io::Result<Option<u64>> {
        let (pool, image) = self.image_at(place)?;
        pool.disk_bytes(&image, format_of(&image)).await
    }

    async fn rename_image(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((pool, from), (_, to)) = (self.image_at(from)?, self.image_at(to)?);
        pool.complete(&from, &to).await
    }

    async fn remove_image(&self, place: &Path) -> io::Result<()> {
        let (pool, image) = self.image_at(place)?;
        pool.rbd().remove(&image).await
    }
}

/// The bytes that the files in `dir` and in its directories take.
fn allocated(dir: &Path) -> io::Result<u64> {
    let taken = |file: &fs::DirEntry| file.metadata().map_or(0, |found| found.blocks() * 512);
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // An instance may be destroyed meanwhile.
        match fs::read_dir(entry.path()) {
            Ok(files) => bytes += files.flatten().map(|file| taken(&file)).sum::<u64>(),
            Err(_) => bytes += taken(&entry),
        }
    }
    Ok(bytes)
}

/// No disks: simulated guests need none.
#[derive(Clone, Copy, Debug)]
pub struct FakeDisks {
    /// What is pretended to be there.
    pub capacity_gib: u64,
    /// The pool of volumes that is pretended to be reached; `None`: there is none.
    pub pool: Option<&'static str>,
}

impl Default for FakeDisks {
    fn default() -> Self {
        FakeDisks {
            capacity_gib: 1 << 20,
            pool: None,
        }
    }
}

/// The id of the cluster that is pretended to be reached.
const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";

#[async_trait]
impl Disks for FakeDisks {
    fn uses_images(&self) -> bool {
        false
    }

    async fn ensure(&self, _: &DiskFile<'_>, _: May) -> io::Result<bool> {
        Ok(true)
    }

    async fn make(&self, _: &DiskFile<'_>) -> io::Result<()> {
        Ok(())
    }

    async fn copy(&self, _: &DiskFile<'_>, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn capacity_gib(&self, _: &[PathBuf]) -> io::Result<u64> {
        Ok(self.capacity_gib)
    }

    fn pool(&self) -> Option<&str> {
        self.pool
    }

    async fn reached(&self) -> Option<String> {
        self.pool.map(|pool| format!("{NOWHERE}/{pool}"))
    }
}

/// Files of a console that a guest can't fill the host with: where the hypervisor's log daemon does not
/// limit them, they are cut here.
pub(crate) fn limit_consoles(files: &dyn HostFiles, paths: &[PathBuf], limit: u64) -> HashSet<PathBuf> {
    let cut = paths.iter().filter(|path| files.cut(path, limit));
    cut.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QEMU_IMG: &str = "/usr/bin/qemu-img";

    #[tokio::test]
    async fn a_disk_is_made_once_over_its_image() {
        if !Path::new(QEMU_IMG).exists() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::write(&image, vec![7; 4096]).unwrap();
        let disk = dir.path().join("disk.qcow2");
        let disks = QemuDisks::new(QEMU_IMG);
        let file = |bytes| DiskFile {
            path: &disk,
            format: DiskFormat::Qcow2,
            bytes,
            image: Some((image.as_path(), DiskFormat::Raw)),
            lock: None,
        };
        const GROWS: May = May {
            make: true,
            grow: true,
        };
        const STAYS: May = May {
            make: true,
            grow: false,
        };
        // The header of qcow2: magic, version, and the virtual size at offset 24.
        let size = || {
            let bytes = fs::read(&disk).unwrap();
            assert_eq!(&bytes[..4], b"QFI\xfb");
            u64::from_be_bytes(bytes[24..32].try_into().unwrap())
        };
        let inode = || fs::metadata(&disk).unwrap().ino();
        assert!(disks.ensure(&file(1 << 30), STAYS).await.unwrap());
        let made = inode();
        assert_eq!(fs::metadata(&disk).unwrap().mode() & 0o777, 0o600);
        for (bytes, may, expected) in [
            (2_u64 << 30, STAYS, 1_u64 << 30),
            (2 << 30, GROWS, 2 << 30),
            (1 << 30, GROWS, 2 << 30),
        ] {
            assert!(disks.ensure(&file(bytes), may).await.unwrap());
            assert_eq!((size(), inode()), (expected, made));
        }
        let (missing, other) = (dir.path().join("none"), dir.path().join("d2"));
        let over_nothing = DiskFile {
            path: &other,
            image: Some((&missing, DiskFormat::Raw)),
            ..file(1)
        };
        let error = disks.ensure(&over_nothing, GROWS).await;
        assert!(error.unwrap_err().to_string().contains("qemu-img"));
        assert!(!other.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_guests_process_keeps_open_to_write_is_not_the_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap-1.copy");
        let disks = QemuDisks::new(QEMU_IMG);
        let writer = fs::File::create(&path).unwrap();
        let error = disks.reclaim(&path).await.unwrap_err();
        assert!(error.to_string().contains("open to be written"), "{error}");
        let (taken, ()) = tokio::join!(disks.reclaim(&path), async {
            tokio::time::sleep(10 * LOOK).await;
            drop(writer);
        });
        taken.unwrap();
    }

    /// As on a disk that is full: a program that has begun, and can't go on.
    #[tokio::test]
    async fn what_came_of_a_disk_that_could_not_be_made_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (program, path) = (dir.path().join("qemu-img"), dir.path().join("disk.raw"));
        let text = "#!/bin/sh\nfor word; do case $word in *.new) echo half >$word;; esac; done\nexit 1\n";
        fs::write(&program, text).unwrap();
        only_owners(&program, 0o700).unwrap();
        let file = DiskFile {
            path: &path,
            format: DiskFormat::Raw,
            bytes: 1 << 20,
            image: None,
            lock: None,
        };
        let may = May {
            make: true,
            grow: false,
        };
        QemuDisks::new(&program).ensure(&file, may).await.unwrap_err();
        let names = fs::read_dir(dir.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["qemu-img"]);
    }

    /// A volume that is lost is an error, never an empty disk.
    #[tokio::test]
    async fn an_empty_volume_is_made_only_where_it_may_be() {
        if !Path::new(QEMU_IMG).exists() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let disks = QemuDisks::new(QEMU_IMG);
        for format in [DiskFormat::Qcow2, DiskFormat::Raw] {
            let path = dir.path().join(format.name());
            let file = DiskFile {
                path: &path,
                format,
                bytes: 1 << 20,
                image: None,
                lock: None,
            };
            let may = |make| May { make, grow: true };
            assert!(!disks.ensure(&file, may(false)).await.unwrap());
            assert!(!path.exists());
            assert!(disks.ensure(&file, may(true)).await.unwrap());
            assert!(disks.ensure(&file, may(false)).await.unwrap());
            let is_raw = fs::metadata(&path).unwrap().len() == 1 << 20;
            assert_eq!(is_raw, format == DiskFormat::Raw);
            let larger = DiskFile {
                bytes: 2 << 20,
                ..file
            };
            assert!(disks.ensure(&larger, may(false)).await.unwrap());
            assert_eq!(disk_size(&path, format).unwrap(), Some(2 << 20));
        }
    }

    #[test]
    fn what_disks_take_is_in_a_directory_or_in_one_of_each_instance() {
        let dir = tempfile::tempdir().unwrap();
        let (instance, block) = (dir.path().join("i-1"), [7; 4096]);
        fs::create_dir(&instance).unwrap();
        assert_eq!(allocated(dir.path()).unwrap(), 0);
        for (file, blocks) in [(instance.join("disk.qcow2"), 3), (dir.path().join("v.raw"), 2)] {
            let before = allocated(dir.path()).unwrap();
            fs::write(file, block.repeat(blocks)).unwrap();
            let more = allocated(dir.path()).unwrap() - before;
            assert_eq!(more, 4096 * blocks as u64);
        }
    }

    #[test]
    fn long_consoles_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (long, short) = (dir.path().join("long"), dir.path().join("short"));
        fs::write(&long, [0; 100]).unwrap();
        fs::write(&short, [0; 99]).unwrap();
        let cut = limit_consoles(
            &crate::files::DiskFiles,
            &[long.clone(), short, dir.path().join("none")],
            99,
        );
        assert_eq!(cut, [long.clone()].into());
        assert_eq!(fs::metadata(&long).unwrap().len(), 0);
    }
}

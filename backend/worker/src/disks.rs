//! Disks of guests: real ones made by `qemu-img`, and none at all for simulated guests.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use cumulet_domain::image::DiskFormat;

use crate::{
    files::{blocking, only_owners},
    qemu_img,
};

/// Makes disks. What is made is never made again: its content survives stop and start.
#[async_trait]
pub trait Disks: Send + Sync + 'static {
    /// Whether disks are made over images, which then have to be here.
    fn uses_images(&self) -> bool;

    /// There shall be a qcow2 disk of this size over this image. One that is there is left alone.
    async fn ensure(&self, disk: &Path, bytes: u64, image: (&Path, DiskFormat)) -> io::Result<()>;

    /// What there is for disks in `dir`, in GiB: what they take already and what is free.
    async fn capacity_gib(&self, dir: &Path) -> io::Result<u64>;
}

/// Disks for QEMU.
#[derive(Clone, Debug)]
pub struct QemuDisks {
    program: PathBuf,
}

impl QemuDisks {
    /// Disks made by this `qemu-img`.
    pub fn new(qemu_img: impl Into<PathBuf>) -> Self {
        QemuDisks {
            program: qemu_img.into(),
        }
    }
}

#[async_trait]
impl Disks for QemuDisks {
    fn uses_images(&self) -> bool {
        true
    }

    async fn ensure(&self, disk: &Path, bytes: u64, image: (&Path, DiskFormat)) -> io::Result<()> {
        if tokio::fs::try_exists(disk).await? {
            return Ok(());
        }
        // A disk is there as a whole or not at all.
        let fresh = disk.with_extension("new");
        qemu_img::create(&self.program, &fresh, bytes, Some(image)).await?;
        only_owners(&fresh, 0o600)?;
        tokio::fs::rename(&fresh, disk).await
    }

    async fn capacity_gib(&self, dir: &Path) -> io::Result<u64> {
        let dir = dir.to_owned();
        blocking(move || {
            let system = nix::sys::statvfs::statvfs(&dir)?;
            let free = system.blocks_available() * system.fragment_size();
            Ok((free + allocated(&dir)?) >> 30)
        })
        .await
    }
}

/// The bytes that the files of the directories in `dir` take.
fn allocated(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for instance in fs::read_dir(dir)? {
        // An instance may be destroyed meanwhile.
        let Ok(files) = fs::read_dir(instance?.path()) else {
            continue;
        };
        for file in files {
            bytes += file?.metadata().map_or(0, |m| m.blocks() * 512);
        }
    }
    Ok(bytes)
}

/// No disks: simulated guests need none.
#[derive(Clone, Copy, Debug)]
pub struct FakeDisks {
    /// What is pretended to be there.
    pub capacity_gib: u64,
}

impl Default for FakeDisks {
    fn default() -> Self {
        FakeDisks {
            capacity_gib: 1 << 20,
        }
    }
}

#[async_trait]
impl Disks for FakeDisks {
    fn uses_images(&self) -> bool {
        false
    }

    async fn ensure(&self, _: &Path, _: u64, _: (&Path, DiskFormat)) -> io::Result<()> {
        Ok(())
    }

    async fn capacity_gib(&self, _: &Path) -> io::Result<u64> {
        Ok(self.capacity_gib)
    }
}

/// Files of a console that a guest can't fill the host with: where the hypervisor's log daemon does not
/// limit them, they are cut here.
pub(crate) fn limit_consoles(paths: &[PathBuf], limit: u64) -> HashSet<PathBuf> {
    let mut cut = HashSet::new();
    for path in paths {
        let long = fs::metadata(path).is_ok_and(|m| m.len() > limit);
        if long
            && fs::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|f| f.set_len(0))
                .is_ok()
        {
            cut.insert(path.clone());
        }
    }
    cut
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
        disks
            .ensure(&disk, 1 << 30, (&image, DiskFormat::Raw))
            .await
            .unwrap();
        let made = fs::metadata(&disk).unwrap().ino();
        assert_eq!(fs::metadata(&disk).unwrap().mode() & 0o777, 0o600);
        disks
            .ensure(&disk, 2 << 30, (&image, DiskFormat::Raw))
            .await
            .unwrap();
        assert_eq!(fs::metadata(&disk).unwrap().ino(), made);
        // The header of qcow2: magic, version, and the virtual size at offset 24.
        let bytes = fs::read(&disk).unwrap();
        assert_eq!(&bytes[..4], b"QFI\xfb");
        assert_eq!(bytes[24..32], (1_u64 << 30).to_be_bytes());
        let missing = dir.path().join("none");
        let error = disks
            .ensure(&dir.path().join("d2"), 1, (&missing, DiskFormat::Raw))
            .await;
        assert!(error.unwrap_err().to_string().contains("qemu-img"));
        assert!(!dir.path().join("d2").exists());
    }

    #[test]
    fn long_consoles_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (long, short) = (dir.path().join("long"), dir.path().join("short"));
        fs::write(&long, [0; 100]).unwrap();
        fs::write(&short, [0; 99]).unwrap();
        let cut = limit_consoles(&[long.clone(), short, dir.path().join("none")], 99);
        assert_eq!(cut, [long.clone()].into());
        assert_eq!(fs::metadata(&long).unwrap().len(), 0);
    }
}

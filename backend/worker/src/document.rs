//! Disks as QEMU's programs are told them: whole, with their formats and all that lies below, after a look at what their
//! own headers say. There is no other way to tell a program of a disk that is there, so none goes by a file's header.
//!
//! What is relied upon, in QEMU 7.2 (block.c, block/qcow2.c) as in later ones:
//!
//! - `"driver"` is told for each node: nothing is probed, and a raw disk's bytes are a disk's bytes.
//! - `"backing": null` opens nothing below, whatever the header names (`bdrv_open_inherit`: `BDRV_O_NO_BACKING`).
//! - `"backing"` with a file of its own (`backing.file.filename`) is opened in place of what the header names, and with its
//!   own driver in place of the header's (`bdrv_open_backing_file`).
//! - A file with the data can't be overridden so: the header's is opened where its feature says that there is one, and
//!   `"data-file"` is an error where it does not, `null` as good as nothing (`qcow2_do_open`). So such a disk is refused,
//!   by the look (`qcow2.rs`).
//!
//! Between the look and the program's own nobody writes to the file. No guest has the disk then, as libvirt has it; but a
//! process that was taken over may keep a file open that it was to let go of. So it is taken first (`writers.rs`), and one
//! that somebody has open to write is not looked at. The one file of a guest that runs is the encrypted copy that its
//! process has made for a snapshot, which may take a while to let go of it (`Disks::reclaim`). A disk that is an image in
//! the pool is looked at in the same way, by the pool's own means (`pool.rs`); there a process that was taken over, and has
//! the pool's key, can write behind the look without being seen (ARCHITECTURE, "Users on a host").

use std::{ffi::OsString, io, path::Path, time::Duration};

use cumulet_domain::image::DiskFormat;
use cumulet_hypervisor::RbdImage;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    blocking::blocking,
    disks::DiskFile,
    pool::{Pool, no_pool},
    qcow2, writers,
};

/// How long a process that ends may take to let go of a file, and how often that is looked at.
const LETS_GO: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// A disk that is there, as a program's argument.
pub(crate) struct Document(String);

impl Document {
    /// Looks at a disk that no guest has, and at what it lies over. `pool` is where images are, which lie over nothing.
    ///
    /// # Errors
    /// Those of the files and of the pool; [`qcow2::Altered`] where one is not as it was made.
    pub(crate) async fn of(disk: &DiskFile<'_>, pool: Option<&Pool>) -> io::Result<Document> {
        if let Some(image) = RbdImage::of(disk.path) {
            let pool = pool.ok_or_else(no_pool)?;
            pool.look(&image, disk.format).await?;
            return Ok(Document::written(disk, Some(pool)));
        }
        if disk.format == DiskFormat::Qcow2 {
            taken(disk.path).await?;
        }
        let (path, format) = (disk.path.to_owned(), disk.format);
        let below = disk.image.map(|(image, format)| (image.to_owned(), format));
        let looked = blocking(move || {
            look(&path, format, below.as_ref().map(|(image, _)| image.as_path()))?;
            below.map_or(Ok(()), |(image, format)| look(&image, format, None))
        });
        looked.await?;
        Ok(Document::written(disk, None))
    }

    fn written(disk: &DiskFile<'_>, pool: Option<&Pool>) -> Document {
        let bytes = |path: &Path| match RbdImage::of(path).zip(pool) {
            Some((image, pool)) => pool.node(&image),
            None => json!({"driver": "file", "filename": path.to_string_lossy()}),
        };
        let node = |path: &Path, format: &str, is_locked: bool, backing: Value| {
            let mut node = json!({"driver": format, "file": bytes(path)});
            if is_locked {
                node["encrypt"] = json!({"format": "luks", "key-secret": "key"});
            }
            if format == DiskFormat::Qcow2.name() {
                node["backing"] = backing;
            }
            node
        };
        let below = disk.lock.as_ref().is_some_and(|lock| lock.below);
        let backing = disk.image.map_or(Value::Null, |(path, format)| {
            node(path, format.name(), below, Value::Null)
        });
        let all = node(disk.path, disk.format.name(), disk.lock.is_some(), backing);
        Document(format!("json:{all}"))
    }

    /// One that nobody has looked at, whose arguments a test looks at.
    #[cfg(test)]
    pub(crate) fn unseen(disk: &DiskFile<'_>) -> Document {
        Document::written(disk, None)
    }

    /// The argument.
    pub(crate) fn argument(&self) -> OsString {
        OsString::from(&self.0)
    }
}

/// Nobody has the file of a disk open to write. Where the file system has no leases to ask by, that is not known.
async fn taken(path: &Path) -> io::Result<()> {
    let until = Instant::now() + LETS_GO;
    loop {
        let file = path.to_owned();
        match blocking(move || writers::take(&file)).await {
            Ok(true) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(()),
            Err(error) => return Err(error),
            Ok(false) if Instant::now() < until => sleep(LOOK).await,
            Ok(false) => {
                tracing::error!(
                    file = %path.display(),
                    "ALARM: a disk that no guest has is open to be written: a guest's process may have been taken over"
                );
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "it is still open to be written",
                ));
            }
        }
    }
}

/// What a disk that is about to be made is to lie over names no other file.
pub(crate) async fn look_below(disk: &DiskFile<'_>) -> io::Result<()> {
    let Some((image, format)) = disk.image else {
        return Ok(());
    };
    let image = image.to_owned();
    blocking(move || look(&image, format, None)).await
}

fn look(path: &Path, format: DiskFormat, over: Option<&Path>) -> io::Result<()> {
    match format {
        DiskFormat::Qcow2 => qcow2::look(path, over),
        // It has no header: it is read as it is.
        DiskFormat::Raw => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _, path::PathBuf, process::Command};

    use cumulet_certs::DiskKey;
    use rand::SeedableRng as _;

    use super::*;
    use crate::{
        disks::{Disks as _, Lock, May, QemuDisks},
        failure::Failure,
        qcow2::Altered,
    };

    const QEMU_IMG: &str = "/usr/bin/qemu-img";
    const MIB: u64 = 1 << 20;
    const SECRET: &[u8] = b"what root alone may read";

    fn read(disk: &DiskFile<'_>) -> Value {
        let document = Document::written(disk, None);
        serde_json::from_str(document.0.strip_prefix("json:").unwrap()).unwrap()
    }

    #[test]
    fn all_of_a_disk_is_told_and_nothing_is_left_to_its_header() {
        let key = DiskKey::generate(&mut rand::rngs::StdRng::seed_from_u64(1));
        let plain = DiskFile {
            path: Path::new("/v/a,b.qcow2"),
            format: DiskFormat::Qcow2,
            bytes: 1,
            image: None,
            lock: None,
        };
        let file = json!({"driver": "file", "filename": "/v/a,b.qcow2"});
        let expected = json!({"driver": "qcow2", "file": file, "backing": null});
        assert_eq!(read(&plain), expected);
        let raw = DiskFile {
            format: DiskFormat::Raw,
            ..plain
        };
        assert_eq!(read(&raw), json!({"driver": "raw", "file": file}));
        let image = Path::new("/c/ab");
        let over_raw = DiskFile {
            image: Some((image, DiskFormat::Raw)),
            lock: Some(Lock {
                key: &key,
                below: false,
            }),
            ..plain
        };
        let locked = json!({"format": "luks", "key-secret": "key"});
        let below = json!({"driver": "raw", "file": {"driver": "file", "filename": "/c/ab"}});
        let expected = json!({"driver": "qcow2", "file": file, "encrypt": locked, "backing": below});
        assert_eq!(read(&over_raw), expected);
        // What lies below has nothing below.
        let over_locked = DiskFile {
            image: Some((image, DiskFormat::Qcow2)),
            lock: over_raw.lock.map(|lock| Lock { below: true, ..lock }),
            ..over_raw
        };
        let told = read(&over_locked);
        assert_eq!(told["backing"]["encrypt"], locked);
        assert!(told["backing"].as_object().unwrap().contains_key("backing"));
        assert_eq!(told["backing"]["backing"], Value::Null);
    }

    #[test]
    fn an_image_in_the_pool_is_told_as_one() {
        let scene = crate::pool::tests::Scene::new("");
        let disk = DiskFile {
            path: Path::new("rbd:pool/vol-0.raw"),
            format: DiskFormat::Raw,
            bytes: 1,
            image: None,
            lock: None,
        };
        let Document(text) = Document::written(&disk, Some(&scene.pool()));
        let told: Value = serde_json::from_str(text.strip_prefix("json:").unwrap()).unwrap();
        assert_eq!(told["driver"], "raw");
        let (image, conf) = (&told["file"], told["file"]["conf"].as_str().unwrap());
        assert!(conf.ends_with("/hosts/one/ceph.conf"), "{conf}");
        let expected =
            json!({"driver": "rbd", "pool": "pool", "image": "vol-0.raw", "conf": conf, "user": "cloud"});
        assert_eq!(*image, expected);
    }

    /// A disk over an image, and a file that is none of its guest's business.
    struct Scene {
        _dir: tempfile::TempDir,
        image: PathBuf,
        disk: PathBuf,
        secret: PathBuf,
        copy: PathBuf,
    }

    impl Scene {
        /// `None` where there is no QEMU.
        async fn new() -> Option<Scene> {
            if !Path::new(QEMU_IMG).exists() {
                println!("not run: {QEMU_IMG} is not there");
                return None;
            }
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let (image, disk, secret, copy) = (at("image"), at("disk.qcow2"), at("master.key"), at("copy"));
            fs::write(&image, vec![7; 4096]).unwrap();
            fs::write(&secret, SECRET.repeat(4096)).unwrap();
            let scene = Scene {
                image,
                disk,
                secret,
                copy,
                _dir: dir,
            };
            let may = May {
                make: true,
                grow: false,
            };
            assert!(disks().ensure(&scene.file(MIB), may).await.unwrap());
            Some(scene)
        }

        fn file(&self, bytes: u64) -> DiskFile<'_> {
            DiskFile {
                path: &self.disk,
                format: DiskFormat::Qcow2,
                bytes,
                image: Some((&self.image, DiskFormat::Raw)),
                lock: None,
            }
        }

        /// Everything that is done with a disk refuses it for good, and tells nothing of what it names.
        async fn is_refused(&self, disk: &DiskFile<'_>) {
            let grow = May {
                make: false,
                grow: true,
            };
            let larger = DiskFile {
                bytes: 2 * MIB,
                ..*disk
            };
            let disks = disks();
            for (what, done) in [
                ("copy", disks.copy(disk, &self.copy).await),
                ("flatten", disks.flatten(disk).await),
                ("resize", disks.ensure(&larger, grow).await.map(drop)),
                ("serve", disks.serve(disk, false).await.map(drop)),
            ] {
                let error = done.expect_err(what);
                assert!(Altered::of(&error).is_some(), "{what}: {error}");
                let Failure {
                    reason, permanent, ..
                } = error.into();
                assert!(
                    permanent && reason.starts_with("the root of "),
                    "{what}: {reason}"
                );
            }
            assert!(!self.copy.exists());
        }
    }

    fn disks() -> QemuDisks {
        QemuDisks::new(QEMU_IMG)
    }

    /// Writes another name in the place of that of the file below.
    fn name_below(disk: &Path, name: &Path) {
        let file = fs::OpenOptions::new().read(true).write(true).open(disk).unwrap();
        let mut offset = [0; 8];
        file.read_exact_at(&mut offset, 8).unwrap();
        let name = name.as_os_str().as_encoded_bytes();
        file.write_all_at(name, u64::from_be_bytes(offset)).unwrap();
        let length = u32::try_from(name.len()).unwrap();
        file.write_all_at(&length.to_be_bytes(), 16).unwrap();
    }

    /// Once root's `qemu-img` read what the header of a disk named, and it was in a snapshot of the disk.
    #[tokio::test]
    async fn a_file_that_a_guests_process_has_named_is_not_read() {
        let Some(scene) = Scene::new().await else { return };
        name_below(&scene.disk, &scene.secret);
        scene.is_refused(&scene.file(MIB)).await;
        // Nor of one that is to lie over nothing.
        let alone = DiskFile {
            image: None,
            ..scene.file(MIB)
        };
        scene.is_refused(&alone).await;
        name_below(&scene.disk, &scene.image);
        disks().copy(&scene.file(MIB), &scene.copy).await.unwrap();
        assert_eq!(fs::read(&scene.copy).unwrap()[..4096], [7; 4096]);
        scene_is_untouched(&scene);
    }

    fn scene_is_untouched(scene: &Scene) {
        assert_eq!(fs::read(&scene.secret).unwrap(), SECRET.repeat(4096));
    }

    #[tokio::test]
    async fn a_file_that_a_disk_keeps_its_data_in_is_not_read() {
        let Some(scene) = Scene::new().await else { return };
        fs::remove_file(&scene.disk).unwrap();
        let secret = scene.secret.display();
        let made = Command::new(QEMU_IMG)
            .args(["create", "-q", "-f", "qcow2", "-o"])
            .arg(format!("data_file={secret},data_file_raw=on"))
            .arg(&scene.disk)
            .arg("64K")
            .status();
        assert!(made.unwrap().success());
        fs::write(&scene.secret, SECRET.repeat(4096)).unwrap();
        let alone = DiskFile {
            image: None,
            ..scene.file(MIB)
        };
        scene.is_refused(&alone).await;
        scene_is_untouched(&scene);
    }

    /// The header's name is of before a cloud was moved: what is told is opened, and nothing looked for there.
    #[tokio::test]
    async fn where_the_image_is_is_told() {
        let Some(mut scene) = Scene::new().await else {
            return;
        };
        let moved = scene.image.with_file_name("moved");
        fs::create_dir(&moved).unwrap();
        let image = moved.join("image");
        fs::rename(&scene.image, &image).unwrap();
        fs::write(&scene.image, vec![9; 4096]).unwrap();
        scene.image = image;
        disks().copy(&scene.file(MIB), &scene.copy).await.unwrap();
        assert_eq!(fs::read(&scene.copy).unwrap()[..4096], [7; 4096]);
    }

    /// Cut off after it was done, it is done again; from then on the disk lies over nothing.
    #[tokio::test]
    async fn a_disk_is_made_to_lie_over_nothing_as_often_as_it_is_said() {
        let Some(scene) = Scene::new().await else { return };
        for _ in 0..2 {
            disks().flatten(&scene.file(MIB)).await.unwrap();
        }
        fs::remove_file(&scene.image).unwrap();
        let alone = DiskFile {
            image: None,
            ..scene.file(MIB)
        };
        disks().copy(&alone, &scene.copy).await.unwrap();
        let copied = fs::read(&scene.copy).unwrap();
        assert_eq!((copied.len() as u64, &copied[..4096]), (MIB, &[7; 4096][..]));
    }

    /// A guest's process that was taken over has let go of a volume, as libvirt has it, and keeps it open.
    #[tokio::test]
    async fn what_somebody_keeps_open_to_write_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volume.qcow2");
        if !made(&path) {
            return;
        }
        let disk = DiskFile {
            path: &path,
            format: DiskFormat::Qcow2,
            bytes: MIB,
            image: None,
            lock: None,
        };
        let kept = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let error = Document::of(&disk, None).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        // It may let go of it late.
        let (looked, ()) = tokio::join!(Document::of(&disk, None), async {
            sleep(LOOK * 2).await;
            drop(kept);
        });
        looked.unwrap();
    }

    fn made(path: &Path) -> bool {
        let create = Command::new(QEMU_IMG)
            .args(["create", "-q", "-f", "qcow2"])
            .arg(path)
            .arg("1M")
            .status();
        create.is_ok_and(|status| status.success())
    }
}

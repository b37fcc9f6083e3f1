//! The images that a host makes and changes in the pool of volumes. A volume's is `vol-….raw` or, encrypted,
//! `vol-….qcow2`; one that is being made has its host in its name, `vol-….HOST.new`, since other hosts make theirs in the
//! same pool, and gets its own name when it is whole. The host's disks (`disks.rs`) go by it.
//!
//! What is said of files' headers (`document.rs`) is so of images'. Who has an image open is not the kernel's to tell but
//! the cluster's: whoever may write has a watch, which one that has died keeps for half a minute.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cumulet_domain::{
    id::{HostId, VolumeId},
    image::DiskFormat,
};
use cumulet_hypervisor::RbdImage;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    WorkerError,
    disks::{DiskFile, May},
    files::DiskFiles,
    layout::{Layout, PARTIAL},
    qcow2, qemu_img,
    rbd::{Rbd, Trouble},
};

/// How long it is waited for whoever has an image open to let go of it: longer than for one that has died. How often that
/// is looked at.
const LETS_GO: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 45_000 });
const LOOK: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1_000 });

/// The pool as one host works with it.
#[derive(Clone, Debug)]
pub struct Pool {
    rbd: Rbd,
    host: HostId,
    /// What QEMU's programs read of the cluster.
    config: PathBuf,
    /// Where sockets of those are that serve an image.
    sockets: PathBuf,
}

/// The volume that an image of this name is, and the host that was making it where it is not whole; `None`: it is none of
/// ours.
pub fn volume_named(name: &str) -> Option<(VolumeId, Option<&str>)> {
    let (volume, rest) = name.split_once('.')?;
    let volume = volume.parse().ok()?;
    let formats = [DiskFormat::Raw, DiskFormat::Qcow2].map(DiskFormat::name);
    match formats.contains(&rest) {
        true => Some((volume, None)),
        false => {
            let host = rest.strip_suffix(PARTIAL)?.strip_suffix('.')?;
            Some((volume, Some(host)))
        }
    }
}

/// The image of a volume that is whole.
pub(crate) fn image_of(pool: &str, volume: VolumeId, format: DiskFormat) -> RbdImage {
    RbdImage {
        pool: pool.to_owned(),
        name: format!("{volume}.{}", format.name()),
    }
}

/// The images that one of this name may be of which is not whole; none where it is whole, or none of ours.
pub(crate) fn wholes_of(image: &RbdImage) -> Vec<RbdImage> {
    let Some((volume, Some(_))) = volume_named(&image.name) else {
        return Vec::new();
    };
    let formats = [DiskFormat::Raw, DiskFormat::Qcow2].into_iter();
    formats
        .map(|format| image_of(&image.pool, volume, format))
        .collect()
}

/// The format that a volume's image has, by its name.
pub(crate) fn format_of(image: &RbdImage) -> DiskFormat {
    match image.name.rsplit_once('.') {
        Some((_, kind)) if kind == DiskFormat::Qcow2.name() => DiskFormat::Qcow2,
        _ => DiskFormat::Raw,
    }
}

/// That a disk is in a pool, and the host is told of none.
pub(crate) fn no_pool() -> io::Error {
    Trouble::error(
        io::ErrorKind::Unsupported,
        "the host is told of no pool of volumes",
    )
}

impl Pool {
    /// The pool for a host of this name, whose worker keeps what QEMU's programs read of it.
    ///
    /// # Errors
    /// When there is no such state directory, or the host's name is none.
    pub fn new(rbd: Rbd, state_dir: &Path, host: &HostId) -> Result<Pool, WorkerError> {
        let layout = Layout::of(Arc::new(DiskFiles), state_dir, host)?;
        Ok(Pool {
            rbd,
            host: host.clone(),
            config: layout.ceph(),
            sockets: layout.volumes(),
        })
    }

    pub(crate) fn rbd(&self) -> &Rbd {
        &self.rbd
    }

    pub(crate) fn name(&self) -> &str {
        &self.rbd.ceph().pool
    }

    pub(crate) fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// What an image is called while this host makes it.
    pub(crate) fn partial(&self, image: &RbdImage) -> RbdImage {
        let volume = image.name.split('.').next().unwrap_or_default();
        RbdImage {
            pool: image.pool.clone(),
            name: format!("{volume}.{}.{PARTIAL}", self.host.0),
        }
    }

    /// An image in a document of QEMU's.
    pub(crate) fn node(&self, image: &RbdImage) -> Value {
        json!({
            "driver": "rbd",
            "pool": image.pool,
            "image": image.name,
            "conf": self.config.to_string_lossy(),
            "user": self.rbd.ceph().user,
        })
    }

    /// An image that QEMU is to make, as an argument: it makes nothing by a document. A backslash keeps a mark from being
    /// one of the argument's own.
    pub(crate) fn argument(&self, image: &RbdImage) -> OsString {
        let mut config = String::new();
        for letter in self.config.to_string_lossy().chars() {
            if [':', '@', '=', '\\'].contains(&letter) {
                config.push('\\');
            }
            config.push(letter);
        }
        let user = &self.rbd.ceph().user;
        format!("rbd:{image}:conf={config}:id={user}").into()
    }

    /// There shall be such an image; whether it is there.
    pub(crate) async fn ensure(
        &self,
        qemu_img: &Path,
        image: &RbdImage,
        disk: &DiskFile<'_>,
        may: May,
    ) -> io::Result<bool> {
        if let Some(bytes) = self.disk_bytes(image, disk.format).await? {
            if may.grow && bytes < disk.bytes {
                self.grow(qemu_img, image, disk).await?;
            }
            return Ok(true);
        }
        if !may.make {
            return Ok(false);
        }
        // As with a file: it is there as a whole or not at all.
        let fresh = self.partial(image);
        let place = fresh.place();
        let made = DiskFile {
            path: &place,
            ..*disk
        };
        if let Err(error) = self.make(qemu_img, &fresh, &made).await {
            drop(self.rbd.remove(&fresh).await);
            return Err(error);
        }
        self.complete(&fresh, image).await?;
        Ok(true)
    }

    /// Makes an empty image. What has its name is replaced.
    pub(crate) async fn make(
        &self,
        qemu_img: &Path,
        image: &RbdImage,
        disk: &DiskFile<'_>,
    ) -> io::Result<()> {
        self.remove_in_time(image).await?;
        match disk.format {
            DiskFormat::Raw => self.rbd.create(image, disk.bytes).await,
            DiskFormat::Qcow2 => qemu_img::create(qemu_img, disk, Some(self)).await,
        }
    }

    /// What is whole gets its own name. Where another host has been here before (a launch that went on there), its is the
    /// volume's image, and this one goes; but a name that opens nothing, as something that was cut off leaves it, is
    /// nobody's.
    pub(crate) async fn complete(&self, fresh: &RbdImage, image: &RbdImage) -> io::Result<()> {
        match self.rbd.rename(fresh, image).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
        match self.rbd.id(image).await? {
            // Where it is the same by another name, it is left.
            Some(_) => self.rbd.remove(fresh).await,
            None => {
                self.rbd.remove(image).await?;
                self.rbd.rename(fresh, image).await
            }
        }
    }

    async fn grow(&self, qemu_img: &Path, image: &RbdImage, disk: &DiskFile<'_>) -> io::Result<()> {
        match disk.format {
            DiskFormat::Raw => self.rbd.resize(image, disk.bytes).await,
            DiskFormat::Qcow2 => qemu_img::resize(qemu_img, disk, Some(self)).await,
        }
    }

    /// The size of the disk in an image; `None` if there is no image.
    pub(crate) async fn disk_bytes(&self, image: &RbdImage, format: DiskFormat) -> io::Result<Option<u64>> {
        match format {
            DiskFormat::Raw => self.rbd.bytes(image).await,
            DiskFormat::Qcow2 => {
                let header = self.rbd.header(image).await?;
                header.map(|header| qcow2::disk_bytes(&header)).transpose()
            }
        }
    }

    /// Removes an image that somebody may have died over.
    async fn remove_in_time(&self, image: &RbdImage) -> io::Result<()> {
        let until = Instant::now() + LETS_GO;
        loop {
            match self.rbd.remove(image).await {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                    sleep(LOOK).await;
                }
                done => return done,
            }
        }
    }

    /// Looks at an image that no guest has: nobody has it open to write, and its header names no file.
    pub(crate) async fn look(&self, image: &RbdImage, format: DiskFormat) -> io::Result<()> {
        if format == DiskFormat::Raw {
            // It has no header: it is read as it is.
            return Ok(());
        }
        let until = Instant::now() + LETS_GO;
        while self.rbd.is_open(image).await? {
            if Instant::now() > until {
                let text = format!("{image} is still open to be written");
                return Err(Trouble::error(io::ErrorKind::ResourceBusy, text));
            }
            sleep(LOOK).await;
        }
        let none = || Trouble::error(io::ErrorKind::NotFound, format!("{image} is not there"));
        let header = self.rbd.header(image).await?.ok_or_else(none)?;
        qcow2::look_at(&header, &image.place(), None)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use cumulet_certs::DiskKey;
    use rand::SeedableRng as _;

    use super::*;
    use crate::{
        disks::{Disks as _, Lock, QemuDisks},
        qcow2::Altered,
        rbd::tests::Pretended,
    };

    const GIB: u64 = 1 << 30;

    /// A host of whose programs none is real.
    pub(crate) struct Scene {
        pub(crate) pretended: Pretended,
        dir: tempfile::TempDir,
    }

    impl Scene {
        /// `script` is what `rbd` and `ceph` do; `qemu-img` does nothing, and well.
        pub(crate) fn new(script: &str) -> Scene {
            let dir = tempfile::tempdir().unwrap();
            let scene = Scene {
                pretended: Pretended::new(script),
                dir,
            };
            let program = scene.qemu_img();
            let text = "#!/bin/sh\necho \"qemu-img $*\" >>\"${0%/*}/log\"\n";
            std::fs::write(&program, text).unwrap();
            crate::files::only_owners(&program, 0o700).unwrap();
            scene
        }

        fn qemu_img(&self) -> PathBuf {
            self.dir.path().join("qemu-img")
        }

        pub(crate) fn pool(&self) -> Pool {
            Pool::new(self.pretended.rbd(), self.dir.path(), &HostId("one".into())).unwrap()
        }

        pub(crate) fn disks(&self) -> QemuDisks {
            QemuDisks::new(self.qemu_img()).with_pool(Some(self.pool()))
        }

        /// The runs of `qemu-img` so far.
        fn made(&self) -> String {
            std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
        }
    }

    fn volume() -> VolumeId {
        VolumeId::new(7 << 40)
    }

    fn file(place: &Path, format: DiskFormat) -> DiskFile<'_> {
        DiskFile {
            path: place,
            format,
            bytes: 2 * GIB,
            image: None,
            lock: None,
        }
    }

    const MAY: May = May {
        make: true,
        grow: true,
    };

    #[test]
    fn an_image_says_what_it_is_by_its_name() {
        let id = volume();
        for (name, found) in [
            (format!("{id}.raw"), Some((id, None))),
            (format!("{id}.qcow2"), Some((id, None))),
            (format!("{id}.one.new"), Some((id, Some("one")))),
            (format!("{id}.a-b.c_d.new"), Some((id, Some("a-b.c_d")))),
            // A host may have any name.
            (format!("{id}.raw.new"), Some((id, Some("raw")))),
            (format!("{id}.new"), None),
            (format!("{id}.vmdk"), None),
            (format!("{id}"), None),
            ("backup.raw".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(volume_named(&name), found, "{name}");
        }
        let scene = Scene::new("");
        let image = image_of("pool", id, DiskFormat::Qcow2);
        let partial = scene.pool().partial(&image);
        assert_eq!(volume_named(&image.name), Some((id, None)));
        assert_eq!(volume_named(&partial.name), Some((id, Some("one"))));
        for format in [DiskFormat::Raw, DiskFormat::Qcow2] {
            assert_eq!(format_of(&image_of("pool", id, format)), format);
        }
    }

    #[test]
    fn what_is_a_mark_in_an_argument_is_kept_from_being_one() {
        let scene = Scene::new("");
        let mut pool = scene.pool();
        pool.config = "/a:b/c@d=e\\f.conf".into();
        let argument = pool.argument(&image_of("pool", volume(), DiskFormat::Qcow2));
        let expected = format!(r"rbd:pool/{}.qcow2:conf=/a\:b/c\@d\=e\\f.conf:id=cloud", volume());
        assert_eq!(argument, OsString::from(expected));
    }

    /// Nothing is there at first; then it is made beside its place, and put there.
    #[tokio::test]
    async fn an_image_is_there_as_a_whole_or_not_at_all() {
        let id = volume();
        let script = "case $1 in info|rm) exit 2;; esac";
        let scene = Scene::new(script);
        let place = image_of("pool", id, DiskFormat::Raw).place();
        let disk = file(&place, DiskFormat::Raw);
        let keeps = May { make: false, ..MAY };
        let disks = scene.disks();
        assert!(!disks.ensure(&disk, keeps).await.unwrap());
        assert!(disks.ensure(&disk, MAY).await.unwrap());
        let runs = scene.pretended.runs();
        let expected = [
            format!("rbd info --format json pool/{id}.raw"),
            "rbd namespace ls --format json pool".into(),
            format!("rbd info --format json pool/{id}.one.new"),
            "rbd namespace ls --format json pool".into(),
            format!("rbd rm --no-progress pool/{id}.one.new"),
            "rbd namespace ls --format json pool".into(),
            format!("rbd create --no-progress --size 2048M pool/{id}.one.new"),
            format!("rbd mv pool/{id}.one.new pool/{id}.raw"),
        ];
        assert_eq!(runs[2..], expected, "{runs:?}");
    }

    #[tokio::test]
    async fn what_could_not_be_made_is_removed() {
        let id = volume();
        let scene = Scene::new("case $1 in info) exit 2;; create) exit 28;; esac");
        let place = image_of("pool", id, DiskFormat::Raw).place();
        let disk = file(&place, DiskFormat::Raw);
        let error = scene.disks().ensure(&disk, MAY).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let last = scene.pretended.runs().pop();
        assert_eq!(last, Some(format!("rbd rm --no-progress pool/{id}.one.new")));
    }

    /// Two hosts have made it, one after the other: the first is the volume's, whatever the second does.
    #[tokio::test]
    async fn an_image_of_another_hosts_is_not_replaced() {
        let id = volume();
        let script = r#"case $* in
            mv*) exit 17;;
            info*.new) echo '{"id":"1"}';;
            info*.raw) echo '{"id":"2"}';;
            info*) exit 2;;
            esac"#;
        let scene = Scene::new(script);
        let whole = image_of("pool", id, DiskFormat::Raw).place();
        let fresh = scene.disks().partial(&whole);
        scene.disks().rename_image(&fresh, &whole).await.unwrap();
        let runs = scene.pretended.runs();
        let removed = format!("rbd rm --no-progress pool/{id}.one.new");
        assert_eq!(runs.iter().filter(|run| run.starts_with("rbd rm")).count(), 1);
        assert_eq!(runs.last(), Some(&removed));
    }

    /// What a removal or a renaming that was cut off has left of a name is in nobody's way.
    #[tokio::test]
    async fn a_name_that_opens_nothing_is_not_taken() {
        let id = volume();
        let script =
            "case $1 in info) exit 2;; rm) touch ${0%/*}/gone;; mv) test -e ${0%/*}/gone || exit 17;; esac";
        let scene = Scene::new(script);
        let whole = image_of("pool", id, DiskFormat::Raw).place();
        let fresh = scene.disks().partial(&whole);
        scene.disks().rename_image(&fresh, &whole).await.unwrap();
        let moved = format!("rbd mv pool/{id}.one.new pool/{id}.raw");
        let expected = [
            moved.clone(),
            format!("rbd info --format json pool/{id}.raw"),
            "rbd namespace ls --format json pool".into(),
            format!("rbd rm --no-progress pool/{id}.raw"),
            moved,
        ];
        assert_eq!(scene.pretended.runs(), expected);
    }

    /// A renaming that was cut off: both names are the one image, and whoever makes it again finds that.
    #[tokio::test]
    async fn what_is_one_image_by_two_names_is_not_removed() {
        let scene = Scene::new("case $1 in mv) exit 17;; esac; echo '{\"id\":\"1\",\"size\":4294967296}'");
        let whole = image_of("pool", volume(), DiskFormat::Raw).place();
        let (disks, fresh) = (scene.disks(), scene.disks().partial(&whole));
        assert!(disks.ensure(&file(&whole, DiskFormat::Raw), MAY).await.unwrap());
        for error in [
            disks.rename_image(&fresh, &whole).await.unwrap_err(),
            disks.remove_image(&fresh).await.unwrap_err(),
            disks.make(&file(&fresh, DiskFormat::Raw)).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        let runs = scene.pretended.runs();
        assert!(!runs.iter().any(|run| run.starts_with("rbd rm")), "{runs:?}");
    }

    /// One that a worker has died over is watched for half a minute more.
    #[tokio::test]
    async fn who_has_died_is_waited_for_and_who_lives_is_not_for_ever() {
        let scene = Scene::new("case $1 in info) exit 2;; rm) exit 16;; esac");
        let place = image_of("pool", volume(), DiskFormat::Raw).place();
        let made = scene.disks().make(&file(&place, DiskFormat::Raw)).await;
        assert_eq!(made.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        let tries = scene.pretended.runs().len();
        assert!(tries > 2, "{tries}");
    }

    #[tokio::test]
    async fn a_disk_that_is_too_small_grows_by_what_its_format_has_for_that() {
        let id = volume();
        let header = r#"case $1 in
            info) echo '{"size":1048576}';;
            status) echo '{"watchers":[]}';;
            export) printf 'QFI\373\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\20\0\0\0\0\0\20\0\0'; head -c 200 /dev/zero;;
            esac"#;
        let scene = Scene::new(header);
        for format in [DiskFormat::Raw, DiskFormat::Qcow2] {
            let place = image_of("pool", id, format).place();
            let stays = May { grow: false, ..MAY };
            for may in [stays, MAY] {
                assert!(scene.disks().ensure(&file(&place, format), may).await.unwrap());
            }
        }
        let runs = scene.pretended.runs();
        let resized = format!("rbd resize --no-progress --size 2048M pool/{id}.raw");
        assert_eq!(runs.iter().filter(|run| **run == resized).count(), 1, "{runs:?}");
        let made = scene.made();
        assert!(made.starts_with("qemu-img resize -q json:{"), "{made}");
        assert!(
            made.trim().ends_with(" 2147483648") && made.lines().count() == 1,
            "{made}"
        );
        for part in [
            r#""driver":"rbd""#,
            r#""pool":"pool""#,
            r#""user":"cloud""#,
            "hosts/one/ceph.conf",
        ] {
            assert!(made.contains(part), "{part}: {made}");
        }
    }

    /// As of a file: what somebody has written into a header is not gone by.
    #[tokio::test]
    async fn an_image_that_names_a_file_or_is_open_is_not_opened() {
        let place = image_of("pool", volume(), DiskFormat::Qcow2).place();
        let disk = file(&place, DiskFormat::Qcow2);
        let named = "case $1 in status) echo '{\"watchers\":[]}';; \
            export) printf 'QFI\\373\\0\\0\\0\\3'; head -c 64 /dev/zero; printf '\\0\\0\\0\\0\\0\\0\\0\\4'; \
            head -c 200 /dev/zero;; esac";
        let scene = Scene::new(named);
        let error = scene.disks().copy(&disk, Path::new("/c")).await.unwrap_err();
        assert!(Altered::of(&error).is_some(), "{error}");
        let open = Scene::new("echo '{\"watchers\":[{}]}'");
        let error = open.disks().copy(&disk, Path::new("/c")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert_eq!((scene.made(), open.made()), (String::new(), String::new()));
    }

    #[tokio::test]
    async fn an_encrypted_image_is_made_by_qemu_beside_its_place() {
        let id = volume();
        let scene = Scene::new("case $1 in export|info|rm) exit 2;; esac");
        let key = DiskKey::generate(&mut rand::rngs::StdRng::seed_from_u64(1));
        let place = image_of("pool", id, DiskFormat::Qcow2).place();
        let lock = Some(Lock {
            key: &key,
            below: false,
        });
        let disk = DiskFile {
            lock,
            ..file(&place, DiskFormat::Qcow2)
        };
        assert!(scene.disks().ensure(&disk, MAY).await.unwrap());
        let made = scene.made();
        let target = format!(" rbd:pool/{id}.one.new:conf=");
        assert!(
            made.contains("encrypt.format=luks") && made.contains(&target),
            "{made}"
        );
        assert!(!made.contains(key.passphrase().expose().as_str()));
        let moved = format!("rbd mv pool/{id}.one.new pool/{id}.qcow2");
        assert_eq!(scene.pretended.runs().pop(), Some(moved));
    }

    /// A host that is told of no pool makes no file of an image's name.
    #[tokio::test]
    async fn without_a_pool_an_image_is_an_error() {
        let place = image_of("pool", volume(), DiskFormat::Raw).place();
        let disks = QemuDisks::new("/nonexistent/qemu-img");
        let disk = file(&place, DiskFormat::Raw);
        for error in [
            disks.ensure(&disk, MAY).await.map(drop).unwrap_err(),
            disks.make(&disk).await.unwrap_err(),
            disks.copy(&disk, Path::new("/c")).await.unwrap_err(),
            disks.serve(&disk, false).await.map(drop).unwrap_err(),
            disks.has_image(&place).await.map(drop).unwrap_err(),
            disks.remove_image(&place).await.unwrap_err(),
            disks.rename_image(&place, &place).await.unwrap_err(),
        ] {
            assert!(Trouble::is(&error), "{error}");
        }
    }
}

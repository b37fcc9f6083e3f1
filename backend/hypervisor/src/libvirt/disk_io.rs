//! How the files of a guest's disks are read and written: past the host's page cache where their file system can do
//! that, by the fastest interface of the kernel that is here, and in a thread of their own. Decided for each disk when
//! it comes to a guest; `disk_xml` writes it. A guest's flush reaches the disk whatever is chosen. An image in a pool is
//! no file: Ceph's library reads and writes it, without a cache of its own.

use std::{fs, io, os::unix::fs::FileExt as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use nix::fcntl::OFlag;

use super::tree;
use crate::{DomainDisk, RbdImage};

/// What the host can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostIo {
    /// Guests' processes can use `io_uring`.
    pub(super) uring: bool,
}

/// How a disk's files are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskIo {
    /// Past the page cache, by `io_uring`.
    Uring,
    /// Past the page cache, by the kernel's older interface, which works for nothing else.
    Native,
    /// Through the page cache, by threads.
    Buffered,
    /// Over the network, with no interface of the kernel's for files.
    Network,
}

impl DiskIo {
    /// What is best for a disk. It looks at the files.
    pub(super) fn of(disk: &DomainDisk, host: HostIo) -> Self {
        if RbdImage::of(&disk.path).is_some() {
            return DiskIo::Network;
        }
        let below = disk.backing.as_ref().map(|below| below.path.as_path());
        // libvirt opens all of them alike.
        let mut files = [Some(disk.path.as_path()), below].into_iter().flatten();
        if !files.all(is_direct) {
            return DiskIo::Buffered;
        }
        if host.uring { DiskIo::Uring } else { DiskIo::Native }
    }

    /// Its cache mode and its interface, where it has one, in libvirt's words.
    pub(super) const fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            DiskIo::Uring => ("none", Some("io_uring")),
            DiskIo::Native => ("none", Some("native")),
            DiskIo::Buffered => ("writeback", Some("threads")),
            DiskIo::Network => ("none", None),
        }
    }
}

/// What is aligned to this can be read past the page cache wherever that can be done at all.
const ALIGNED: usize = 4096;

/// Whether a file can be read past the page cache: some file systems refuse to open it for that, others to read it.
fn is_direct(file: &Path) -> bool {
    let read = || -> io::Result<usize> {
        let flag = OFlag::O_DIRECT.bits();
        let file = fs::OpenOptions::new().read(true).custom_flags(flag).open(file)?;
        let mut room = vec![0; 2 * ALIGNED];
        let begin = room.as_ptr().align_offset(ALIGNED);
        let buffer = room.get_mut(begin..begin + ALIGNED);
        file.read_at(buffer.unwrap_or_default(), 0)
    };
    let read = read();
    if let Err(error) = &read {
        tracing::info!(file = %file.display(), %error, "it is read through the page cache");
    }
    read.is_ok()
}

/// Whether a guest has a thread for its disks; one that was started by a program of before has none.
pub(super) fn has_thread(domain: &str) -> bool {
    let threads = |root: &tree::Element| root.at(&["iothreads"])?.text.parse::<u32>().ok();
    tree::parse(domain).is_ok_and(|root| threads(&root).is_some_and(|count| count > 0))
}

#[cfg(test)]
mod tests {
    use cumulet_domain::{image::DiskFormat, spec::Throttle};

    use super::*;
    use crate::Backing;

    fn disk(path: &Path, below: Option<&str>) -> DomainDisk {
        DomainDisk {
            path: path.to_owned(),
            format: DiskFormat::Qcow2,
            backing: below.map(|path| Backing {
                path: path.into(),
                format: DiskFormat::Raw,
                encrypted: false,
            }),
            secret: None,
            bytes: 1 << 30,
            target: "vda".into(),
            serial: String::new(),
            boot: None,
            throttle: Throttle::default(),
        }
    }

    #[test]
    fn the_page_cache_is_passed_by_where_all_files_can_be_read_so() {
        // Tests run in their crate's folder, which is on a disk where /tmp may not be.
        let dir = tempfile::tempdir_in(".").unwrap();
        let file = dir.path().join("disk");
        fs::write(&file, vec![1; 10_000]).unwrap();
        if !is_direct(&file) {
            // A build directory on such a file system proves nothing.
            return;
        }
        let (with, without) = (HostIo { uring: true }, HostIo { uring: false });
        assert_eq!(DiskIo::of(&disk(&file, None), with), DiskIo::Uring);
        assert_eq!(DiskIo::of(&disk(&file, None), without), DiskIo::Native);
        let same = file.to_str();
        assert_eq!(DiskIo::of(&disk(&file, same), with), DiskIo::Uring);
        // No file of these can be opened so.
        for other in ["/proc/self/status", "/sys/kernel/mm/ksm/run", "/nonexistent"] {
            for host in [with, without] {
                assert_eq!(DiskIo::of(&disk(Path::new(other), None), host), DiskIo::Buffered);
                assert_eq!(DiskIo::of(&disk(&file, Some(other)), host), DiskIo::Buffered);
            }
        }
    }

    /// Nothing of it is looked for among the host's files.
    #[test]
    fn an_image_is_no_file() {
        let image = disk(Path::new("rbd:pool/vol-0.raw"), None);
        for uring in [true, false] {
            assert_eq!(DiskIo::of(&image, HostIo { uring }), DiskIo::Network);
        }
    }

    /// `unsafe` would lose what a guest has flushed.
    #[test]
    fn every_way_keeps_what_a_guest_has_flushed() {
        let ways = [DiskIo::Uring, DiskIo::Native, DiskIo::Buffered, DiskIo::Network];
        assert_eq!(
            ways.map(DiskIo::words),
            [
                ("none", Some("io_uring")),
                ("none", Some("native")),
                ("writeback", Some("threads")),
                ("none", None),
            ]
        );
    }

    #[test]
    fn a_guest_of_before_has_no_thread() {
        let has = |text: &str| has_thread(&format!("<domain>{text}</domain>"));
        assert!(has("<vcpu>1</vcpu><iothreads>1</iothreads>"));
        for none in [
            "",
            "<iothreads>0</iothreads>",
            "<iothreads/>",
            "<a><iothreads>1</iothreads></a>",
        ] {
            assert!(!has(none), "{none}");
        }
        assert!(!has_thread("") && !has_thread("<"));
    }
}

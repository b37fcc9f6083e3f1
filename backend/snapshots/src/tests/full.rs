//! A store that is full: at each write in turn, by a file system of so many pages and files.

use std::{io::ErrorKind, path::Path, process::Command};

use super::Rig;
use crate::SnapshotStore;

/// A small file system; gone when dropped.
struct Small<'p>(&'p Path);

impl<'p> Small<'p> {
    /// `None` where nothing may be mounted here.
    fn mounted(at: &'p Path, pages: u64, files: u64) -> Option<Self> {
        let size = format!("size={},nr_inodes={files}", pages * 4096);
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        mount
            .output()
            .is_ok_and(|done| done.status.success())
            .then_some(Small(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).output());
    }
}

/// Three blocks of data and a manifest: 384 pages and one, in a file each beside three directories.
#[test]
fn whatever_does_not_fit_leaves_nothing_and_is_told_as_a_full_store() {
    let rig = Rig::new();
    let disk = rig.disk(&[1, 0, 2, 3]);
    let mut outcomes = Vec::new();
    for (pages, files) in [
        (1, 10),
        (100, 10),
        (383, 10),
        (384, 10),
        (1000, 3),
        (1000, 4),
        (385, 10),
        (1000, 5),
    ] {
        let path = rig.path("store");
        let Some(_small) = Small::mounted(&path, pages, files) else {
            println!("not run: nothing may be mounted here");
            return;
        };
        let store = SnapshotStore::open(&path).unwrap();
        match store.take_file(&disk, None, None) {
            Ok(_) => outcomes.push(rig.files().len()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{pages} {files}: {error}");
                assert_eq!(
                    rig.files(),
                    [""; 0].map(std::path::PathBuf::from),
                    "{pages} {files}"
                );
                outcomes.push(0);
            }
        }
    }
    assert_eq!(outcomes, [0, 0, 0, 0, 0, 0, 2, 2]);
}

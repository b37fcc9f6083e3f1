//! Tests of the store as a whole.

mod encrypted;
mod full;
mod sources;
mod uploads;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use crate::{BLOCK, BlockKey, Digest, Progress, SnapshotStore, Taken};

/// A store, and room for disks beside it.
pub(crate) struct Rig {
    dir: tempfile::TempDir,
    pub(crate) store: SnapshotStore,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(&dir.path().join("store")).unwrap();
        Rig { dir, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A raw disk of these blocks, each made of its number; 0 is a hole. It ends 512 bytes before its last block does.
    pub(crate) fn disk(&self, blocks: &[u8]) -> PathBuf {
        let path = self.path("disk");
        let disk = File::create(&path).unwrap();
        let size = blocks.len() as u64 * BLOCK - 512;
        for (at, number) in (0..).zip(blocks).filter(|(_, number)| **number > 0) {
            disk.write_all_at(&block(*number), at * BLOCK).unwrap();
        }
        disk.set_len(size).unwrap();
        path
    }

    pub(crate) fn take(&self, blocks: &[u8], key: Option<&BlockKey>, base: Option<Taken>) -> Taken {
        let base = base.map(|base| base.manifest);
        self.store.take_file(&self.disk(blocks), key, base).unwrap()
    }

    pub(crate) fn content(&self, name: Digest, key: Option<&BlockKey>) -> std::io::Result<Vec<u8>> {
        let path = self.path("restored");
        self.store.restore_file(name, key, &path, 0)?;
        fs::read(path)
    }

    /// Every file of the store, by its place in it.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let dirs = ["manifests", "segments"].map(|dir| self.path("store").join(dir));
        let entries = dirs.iter().flat_map(|dir| fs::read_dir(dir).unwrap());
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

/// A block that looks like nothing, and is the same for the same number.
pub(crate) fn block(number: u8) -> Vec<u8> {
    let mut state = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(usize::try_from(BLOCK).unwrap());
    for _ in 0..BLOCK / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// What a disk of these blocks has.
pub(crate) fn content(blocks: &[u8]) -> Vec<u8> {
    let zeros = || vec![0; usize::try_from(BLOCK).unwrap()];
    let all = blocks
        .iter()
        .map(|number| if *number > 0 { block(*number) } else { zeros() });
    let mut all: Vec<u8> = all.flatten().collect();
    all.truncate(all.len() - 512);
    all
}

#[test]
fn whoever_waits_is_told_how_far_it_has_come() {
    let rig = Rig::new();
    let (all, disk) = (Progress::default(), rig.disk(&[1, 0, 2, 3]));
    all.done(1, 1, 50);
    let taken = rig
        .store
        .clone()
        .telling(&all)
        .take_file(&disk, None, None)
        .unwrap();
    // The last block was about to be read.
    assert_eq!(all.percent(), 87);
    let key = BlockKey::new(&[1; 32]);
    let encrypted = Progress::default();
    rig.store
        .clone()
        .telling(&encrypted)
        .encrypt(taken.manifest, &key)
        .unwrap();
    assert_eq!(encrypted.percent(), 75);
}

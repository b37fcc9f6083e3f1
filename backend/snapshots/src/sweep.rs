//! The room of snapshots that nobody wants any more. What is looked at was there before the caller asked the database
//! what is wanted, so that a snapshot that is being taken loses nothing: its files are younger than it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::Path,
    time::SystemTime,
};

use nix::fcntl::{FallocateFlags, fallocate};

use crate::{
    files::PARTIAL,
    manifest::{BLOCK, Digest, Entry},
    store::SnapshotStore,
};

/// What has to stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Manifests of snapshots, of those that volumes are yet to be made of, and of those that others are taken over.
    pub manifests: BTreeSet<Digest>,
    /// What has come since then stays too: it may be of a snapshot that is being taken.
    pub since: Option<SystemTime>,
}

/// What a sweep has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Manifests that are gone.
    pub manifests: u64,
    /// Segments that are gone.
    pub segments: u64,
    /// Blocks of segments that stay, whose room has come back.
    pub blocks: u64,
}

/// The blocks of a segment that are wanted, by their places in it.
type Slots = BTreeSet<u32>;

impl SnapshotStore {
    /// Removes what is not wanted; `wanted` is called when it is known what is there. All manifests that stay are read,
    /// unless every segment is young.
    ///
    /// # Errors
    /// Those of `wanted` and of the file system; `InvalidData` where a manifest that is wanted is damaged: then nothing
    /// is removed that it may need.
    pub fn sweep(&self, wanted: impl FnOnce() -> io::Result<Wanted>) -> io::Result<Swept> {
        let manifests = listed(&self.backing.place.manifests)?;
        let segments = listed(&self.backing.place.segments)?;
        let wanted = wanted()?;
        let is_old = |came: SystemTime| wanted.since.is_none_or(|since| came < since);
        let (partial, named): (Vec<_>, Vec<_>) = manifests.into_iter().partition(|file| file.name.is_none());
        let goes = |file: &&Found| {
            is_old(file.came) && file.name.is_some_and(|name| !wanted.manifests.contains(&name))
        };
        let mut swept = Swept::default();
        for file in named.iter().filter(goes) {
            fs::remove_file(&file.path)?;
            swept.manifests += 1;
        }
        let left = segments.iter().filter(|file| file.name.is_none()).chain(&partial);
        for file in left.filter(|file| is_old(file.came)) {
            fs::remove_file(&file.path)?;
        }
        let named = segments.iter().filter_map(|file| Some((file.name?, file)));
        let old: BTreeMap<Digest, &Found> = named.filter(|(_, file)| is_old(file.came)).collect();
        // Also what a sweep that ended early has left: a segment that no manifest names.
        if old.is_empty() {
            return Ok(swept);
        }
        let needed = self.needed()?;
        for (name, file) in old {
            // A take may have brought the same blocks under the same name since they were listed.
            if !is_old(fs::metadata(&file.path)?.modified()?) {
                continue;
            }
            match needed.get(&name) {
                None => {
                    fs::remove_file(&file.path)?;
                    swept.segments += 1;
                }
                Some(slots) if swept.manifests > 0 => swept.blocks += punch(&file.path, slots)?,
                Some(_) => {}
            }
        }
        Ok(swept)
    }

    /// What the manifests that are there need of each segment.
    fn needed(&self) -> io::Result<BTreeMap<Digest, Slots>> {
        let mut needed: BTreeMap<Digest, Slots> = BTreeMap::new();
        for file in listed(&self.backing.place.manifests)? {
            let Some(name) = file.name else { continue };
            let mut segments = Vec::new();
            self.walk(name, |entry| {
                match entry {
                    Entry::Segment(segment) => segments.push(segment),
                    Entry::Block(block) => {
                        let at = usize::try_from(block.segment).map_err(io::Error::other)?;
                        if let Some(segment) = segments.get(at) {
                            needed.entry(*segment).or_default().insert(block.slot);
                        }
                    }
                }
                Ok(())
            })?;
        }
        Ok(needed)
    }
}

/// A file of the store.
struct Found {
    path: std::path::PathBuf,
    /// None of one that was being written.
    name: Option<Digest>,
    came: SystemTime,
}

/// The files of a directory. Those that nobody here has made are left alone.
fn listed(dir: &Path) -> io::Result<Vec<Found>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_str().and_then(Digest::parse);
        let is_partial = path.extension().is_some_and(|kind| kind == PARTIAL);
        if name.is_none() && !is_partial {
            continue;
        }
        let came = match entry.metadata() {
            Ok(found) => found.modified()?,
            // It was being written, and has its name now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        all.push(Found { path, name, came });
    }
    Ok(all)
}

/// Gives back the room of the blocks of a segment that are not wanted; how many had some.
fn punch(path: &Path, wanted: &Slots) -> io::Result<u64> {
    let file = File::options().write(true).open(path)?;
    let blocks = u32::try_from(file.metadata()?.len().div_ceil(BLOCK)).map_err(io::Error::other)?;
    let mut punched = 0;
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    for slot in (0..blocks).filter(|slot| !wanted.contains(slot)) {
        let offset = i64::from(slot) * BLOCK.cast_signed();
        fallocate(file.as_fd(), flags, offset, BLOCK.cast_signed())?;
        punched += 1;
    }
    Ok(punched)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{FileExt as _, MetadataExt as _},
        time::Duration,
    };

    use super::*;
    use crate::making::Taken;

    struct Rig {
        dir: tempfile::TempDir,
        store: SnapshotStore,
    }

    impl Rig {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = SnapshotStore::open(&dir.path().join("store")).unwrap();
            Rig { dir, store }
        }

        /// The blocks of a disk: each is full of its number, and 0 is a hole.
        fn take(&self, blocks: &[u8], base: Option<Taken>) -> Taken {
            let path = self.dir.path().join("disk");
            drop(fs::remove_file(&path));
            let disk = File::create_new(&path).unwrap();
            // A disk need not end with a block.
            disk.set_len(blocks.len() as u64 * BLOCK - 512).unwrap();
            for (at, number) in (0..).zip(blocks) {
                if *number > 0 {
                    let length = if at + 1 == blocks.len() {
                        BLOCK - 512
                    } else {
                        BLOCK
                    };
                    let content = vec![*number; usize::try_from(length).unwrap()];
                    disk.write_all_at(&content, at as u64 * BLOCK).unwrap();
                }
            }
            self.store
                .take_file(&path, None, base.map(|base| base.manifest))
                .unwrap()
        }

        fn read(&self, taken: Taken) -> io::Result<Vec<u8>> {
            let path = self.dir.path().join("restored");
            self.store.restore_file(taken.manifest, None, &path, 0)?;
            let content = fs::read(&path)?;
            let blocks = content.chunks(usize::try_from(BLOCK).unwrap());
            Ok(blocks
                .map(|block| {
                    assert!(block.iter().all(|byte| *byte == block[0]));
                    block[0]
                })
                .collect())
        }

        fn sweep(&self, wanted: &[Taken], since: Option<SystemTime>) -> Swept {
            let manifests = wanted.iter().map(|taken| taken.manifest).collect();
            self.store.sweep(|| Ok(Wanted { manifests, since })).unwrap()
        }

        /// The room that segments take, in blocks.
        fn room(&self) -> u64 {
            let segments = listed(&self.store.backing.place.segments).unwrap();
            let bytes = segments
                .iter()
                .map(|file| fs::metadata(&file.path).unwrap().blocks() * 512);
            bytes.sum::<u64>() / BLOCK
        }
    }

    #[test]
    fn a_disk_comes_back_as_it_was() {
        let rig = Rig::new();
        for blocks in [&[1, 0, 2][..], &[0, 0, 0], &[7], &[0, 3]] {
            let taken = rig.take(blocks, None);
            assert_eq!(rig.read(taken).unwrap(), blocks, "{blocks:?}");
            let full = blocks.iter().filter(|block| **block > 0).count() as u64;
            assert_eq!((taken.fresh, taken.bytes), (full * BLOCK, full * BLOCK));
        }
        let path = rig.dir.path().join("larger");
        let taken = rig.take(&[5, 5], None);
        rig.store
            .restore_file(taken.manifest, None, &path, 3 * BLOCK)
            .unwrap();
        let content = fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, 3 * BLOCK);
        assert!(
            content[usize::try_from(2 * BLOCK - 512).unwrap()..]
                .iter()
                .all(|byte| *byte == 0)
        );
    }

    #[test]
    fn what_has_not_changed_is_kept_once() {
        let rig = Rig::new();
        let first = rig.take(&[1, 2, 3, 4], None);
        let second = rig.take(&[1, 9, 3, 0], Some(first));
        assert_eq!(second.fresh, BLOCK);
        assert_eq!(second.bytes, 3 * BLOCK);
        let third = rig.take(&[1, 9, 3, 0], Some(second));
        assert_eq!((third.fresh, third.manifest), (0, second.manifest));
        // Taken again, for instance since nobody heard of the first time.
        assert_eq!(rig.take(&[1, 9, 3, 0], Some(first)), second);
        assert_eq!(rig.room(), 5);
        assert_eq!(rig.read(first).unwrap(), [1, 2, 3, 4]);
        assert_eq!(rig.read(second).unwrap(), [1, 9, 3, 0]);
    }

    #[test]
    fn snapshots_go_in_any_order() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let rig = Rig::new();
            let first = rig.take(&[1, 2, 3, 4], None);
            let second = rig.take(&[1, 5, 3, 4], Some(first));
            let third = rig.take(&[6, 5, 3, 0], Some(second));
            let all = [
                (first, vec![1, 2, 3, 4]),
                (second, vec![1, 5, 3, 4]),
                (third, vec![6, 5, 3, 0]),
            ];
            let mut left = vec![0, 1, 2];
            for gone in order {
                left.retain(|at| *at != gone);
                let wanted: Vec<Taken> = left.iter().map(|at| all[*at].0).collect();
                assert_eq!(rig.sweep(&wanted, None).manifests, 1);
                for at in &left {
                    assert_eq!(
                        rig.read(all[*at].0).unwrap(),
                        all[*at].1,
                        "{order:?}: {at} without {gone}"
                    );
                }
                // No block takes room that nobody wants.
                let mut blocks: BTreeSet<(usize, u8)> = BTreeSet::new();
                for at in &left {
                    let full = all[*at].1.iter().copied().enumerate();
                    blocks.extend(full.filter(|(_, number)| *number > 0));
                }
                assert_eq!(rig.room(), blocks.len() as u64, "{order:?}: without {gone}");
            }
            assert_eq!(rig.sweep(&[], None), Swept::default());
        }
    }

    #[test]
    fn what_is_being_taken_stays() {
        let rig = Rig::new();
        let taken = rig.take(&[1, 2], None);
        let came = listed(&rig.store.backing.place.segments).unwrap().remove(0).came;
        let (before, after) = (came - Duration::from_secs(1), came + Duration::from_secs(60));
        fs::write(rig.store.backing.place.segments.join("segment.1-1.new"), "x").unwrap();
        fs::write(rig.store.backing.place.manifests.join("README"), "x").unwrap();
        assert_eq!(rig.sweep(&[], Some(before)), Swept::default());
        assert_eq!(rig.read(taken).unwrap(), [1, 2]);
        let swept = rig.sweep(&[], Some(after));
        assert_eq!((swept.manifests, swept.segments), (1, 1));
        assert!(rig.read(taken).is_err());
        assert_eq!(
            fs::read_dir(&rig.store.backing.place.segments).unwrap().count(),
            0
        );
        assert!(rig.store.backing.place.manifests.join("README").exists());
    }

    #[test]
    fn what_is_damaged_is_an_error_and_nothing_that_it_needs_goes() {
        let rig = Rig::new();
        let taken = rig.take(&[1, 2], None);
        let segment = listed(&rig.store.backing.place.segments).unwrap().remove(0).path;
        let file = File::options().write(true).open(&segment).unwrap();
        file.write_all_at(b"rot", BLOCK + 7).unwrap();
        let error = rig.read(taken).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("block 1 is damaged"), "{error}");

        let path = rig.store.backing.place.manifest(taken.manifest);
        fs::write(&path, "rot").unwrap();
        assert_eq!(rig.read(taken).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let wanted = || {
            Ok(Wanted {
                manifests: [taken.manifest].into(),
                since: None,
            })
        };
        assert!(rig.store.sweep(wanted).is_err());
        assert!(segment.exists());
        fs::remove_file(path).unwrap();
        assert_eq!(rig.read(taken).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_take_that_fails_leaves_nothing() {
        let rig = Rig::new();
        let taken = rig.take(&[1], None);
        let files = || listed(&rig.store.backing.place.segments).unwrap().len();
        assert_eq!(files(), 1);
        let base = Some(Digest::of(b"none"));
        assert!(
            rig.store
                .take_file(&rig.dir.path().join("disk"), None, base)
                .is_err()
        );
        assert!(
            rig.store
                .take_file(&rig.dir.path().join("no disk"), None, Some(taken.manifest))
                .is_err()
        );
        assert_eq!(files(), 1);
    }
}

//! Sources that fail or that break their promise: an error, and nothing is left.

use std::{fs, io};

use super::{Rig, block, content};
use crate::{BLOCK, RawDisk, Source, Target as _};

/// A disk that tells what it is told to.
struct Told {
    size: u64,
    places: Vec<u64>,
    /// What can't be read.
    bad: Option<u64>,
}

impl Source for Told {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn data_blocks(&self) -> Box<dyn Iterator<Item = io::Result<u64>> + '_> {
        Box::new(self.places.iter().copied().map(Ok))
    }

    fn read_block(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if self.bad == Some(offset) {
            return Err(io::Error::other("it can't be read"));
        }
        into.copy_from_slice(&block(1));
        Ok(())
    }
}

#[test]
fn a_source_that_fails_leaves_nothing() {
    let rig = Rig::new();
    for (size, places, bad, said) in [
        (2 * BLOCK, vec![0, BLOCK], Some(BLOCK), "it can't be read"),
        (2 * BLOCK, vec![0, 2 * BLOCK], None, "has become larger"),
        (2 * BLOCK, vec![BLOCK, 0], None, "out of order"),
        (2 * BLOCK, vec![0, 0], None, "out of order"),
        (2 * BLOCK, vec![0, BLOCK + 1], None, "out of order"),
    ] {
        let told = Told { size, places, bad };
        let error = rig.store.take(&told, None, None).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(rig.files().is_empty(), "{said}");
    }
    // What can't get its name either.
    let (manifests, aside) = (rig.path("store/manifests"), rig.path("aside"));
    fs::rename(&manifests, &aside).unwrap();
    let told = Told {
        size: BLOCK,
        places: vec![0],
        bad: None,
    };
    assert!(rig.store.take(&told, None, None).is_err());
    fs::rename(&aside, &manifests).unwrap();
    let left = rig.files();
    // A segment with its name stays for a sweep, since another snapshot may have it too.
    assert!(left.iter().all(|path| path.extension().is_none()), "{left:?}");
}

#[test]
fn a_raw_file_is_a_source_and_a_target() {
    let rig = Rig::new();
    let blocks = [0, 1, 0, 0, 2];
    let disk = RawDisk::open(&rig.disk(&blocks)).unwrap();
    let places: io::Result<Vec<u64>> = disk.data_blocks().collect();
    assert_eq!(places.unwrap(), [BLOCK, 4 * BLOCK]);
    let taken = rig.store.take(&disk, None, None).unwrap();
    let path = rig.path("target");
    let target = RawDisk::create(&path).unwrap();
    target.write_at(0, b"what was there").unwrap();
    rig.store.restore(taken.manifest, None, &target, 0).unwrap();
    assert!(fs::read(&path).unwrap() == content(&blocks));
}

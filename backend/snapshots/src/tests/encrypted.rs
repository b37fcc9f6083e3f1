//! Encrypted snapshots: their form, who can read them, and what is shared.

use std::{collections::HashSet, fs, io};

use proptest::prelude::*;

use super::{Rig, content};
use crate::{BLOCK, BlockKey, Digest, Swept, Wanted};

fn key(number: u8) -> BlockKey {
    BlockKey::new(&[number; 32])
}

/// Computed with Python's `cryptography` (HKDF-SHA256, AES-256-XTS), and SHA-256 over the table of `manifest`.
#[test]
fn the_form_in_which_it_is_kept_never_changes() {
    let rig = Rig::new();
    let size = 3 * BLOCK - 512;
    let of = |i: u64| match i / BLOCK {
        0 => i * 31 + (i >> 8),
        1 => 0,
        _ => i * 7 + (i >> 9),
    };
    let disk: Vec<u8> = (0..size).map(|i| of(i).to_le_bytes()[0]).collect();
    let path = rig.path("disk");
    fs::write(&path, &disk).unwrap();
    let mut secret = [0; 32];
    (0..).zip(&mut secret).for_each(|(i, byte)| *byte = i);
    let key = BlockKey::new(&secret);

    let plain = rig.store.take_file(&path, None, None).unwrap();
    let name = "74ed2ef3e345c9006ade955c97deec03c39270306432a1927908b878b8f75d64";
    assert_eq!(plain.manifest.to_string(), name);

    let taken = rig.store.take_file(&path, Some(&key), None).unwrap();
    let name = "9b310f1e365ded447656a8beb840766474b1e4ff55e510de736adc4168413761";
    assert_eq!(taken.manifest.to_string(), name);
    assert_eq!((taken.fresh, taken.bytes), (2 * BLOCK, 2 * BLOCK));
    let manifest = fs::read(rig.path("store/manifests").join(name)).unwrap();
    assert_eq!(manifest[..8], *b"CUMSNAPX");
    assert_eq!(hex::encode(&manifest[8..24]), "0d592ef9a32ca91b027657010f025dca");
    let segment = "3eef91fa91addd0f866b666455d82cef83c1c56464cfa3772ea377d57a1af622";
    let kept = fs::read(rig.path("store/segments").join(segment)).unwrap();
    let second = usize::try_from(BLOCK).unwrap();
    assert_eq!(hex::encode(&kept[..16]), "9bcec30772827d47cb2be623a447627a");
    assert_eq!(
        hex::encode(&kept[second..second + 16]),
        "5a8aca0e368591a99e86c2e1d8081402"
    );
    assert!(rig.content(taken.manifest, Some(&key)).unwrap() == disk);
}

#[test]
fn a_snapshot_is_read_with_its_key_alone_and_a_plain_one_with_any() {
    let rig = Rig::new();
    let plain = rig.take(&[1, 0, 2], None, None).manifest;
    let encrypted = rig.take(&[1, 0, 2], Some(&key(1)), None).manifest;
    for (name, key, refusal) in [
        (plain, None, None),
        (plain, Some(key(1)), None),
        (encrypted, Some(key(1)), None),
        (encrypted, None, Some("it is encrypted, and no key was given")),
        (encrypted, Some(key(2)), Some("it is encrypted with another key")),
    ] {
        let path = rig.path("restored");
        fs::write(&path, "as it was").unwrap();
        match (rig.content(name, key.as_ref()), refusal) {
            (Ok(read), None) => assert!(read == content(&[1, 0, 2]), "{name} {key:?}"),
            (Err(error), Some(refusal)) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                assert!(error.to_string().contains(refusal), "{error}");
                assert!(error.to_string().contains(&name.to_string()), "{error}");
                assert_eq!(fs::read(&path).unwrap(), b"as it was");
            }
            (read, _) => panic!("{name} {key:?}: {:?}", read.map(|read| read.len())),
        }
        rig.store.check(&name.to_string()).unwrap();
    }
}

#[test]
fn a_base_is_one_of_the_same_key() {
    let rig = Rig::new();
    let taken = [None, Some(key(1)), Some(key(2))].map(|key| {
        let taken = rig.take(&[1, 2], key.as_ref(), None);
        (key, taken)
    });
    for (base, over) in &taken {
        for (key, _) in &taken {
            let later = rig.take(&[1, 9], key.as_ref(), Some(*over));
            let is_same = base.as_ref().map(BlockKey::check) == key.as_ref().map(BlockKey::check);
            let fresh = if is_same { 1 } else { 2 };
            assert_eq!(later.fresh, fresh * BLOCK, "{base:?} {key:?}");
            assert_eq!(later.bytes, 2 * BLOCK);
            let read = rig.content(later.manifest, key.as_ref()).unwrap();
            assert!(read == content(&[1, 9]));
            // Taken again, for instance since nobody heard of the first time.
            assert_eq!(rig.take(&[1, 9], key.as_ref(), Some(*over)), later);
        }
    }
}

#[test]
fn nothing_of_the_disk_is_in_any_file() {
    let rig = Rig::new();
    let blocks = [1, 0, 2];
    let disk = content(&blocks);
    let zeros = [0; 16];
    let runs: HashSet<&[u8]> = disk.chunks_exact(16).filter(|run| *run != zeros).collect();
    let found = || {
        let files = rig.files().into_iter().map(|path| fs::read(path).unwrap());
        files
            .filter(|file| file.windows(16).any(|run| runs.contains(run)))
            .count()
    };
    rig.take(&blocks, Some(&key(1)), None);
    assert_eq!((rig.files().len(), found()), (2, 0));
    // It is looked for in the right way.
    rig.take(&blocks, None, None);
    assert_eq!((rig.files().len(), found()), (4, 1));
}

#[test]
fn the_same_content_is_other_bytes_elsewhere_and_under_another_key() {
    let rig = Rig::new();
    let disks: [&[u8]; 2] = [&[1, 0, 1], &[0, 1, 0]];
    let mut digests = HashSet::new();
    for (blocks, key) in [(disks[0], key(1)), (disks[1], key(1)), (disks[0], key(2))] {
        let name = rig.take(blocks, Some(&key), None).manifest;
        let manifest = rig.store.manifest(name).unwrap();
        digests.extend(manifest.blocks.iter().map(|block| block.digest));
    }
    assert_eq!(digests.len(), 5);
}

#[test]
fn a_plain_snapshot_becomes_an_encrypted_one() {
    let rig = Rig::new();
    let first = rig.take(&[1, 2, 0, 3], None, None);
    let plain = rig.take(&[1, 9, 0, 3], None, Some(first));
    let made = rig.store.encrypt(plain.manifest, &key(1)).unwrap();
    assert_eq!((made.fresh, made.bytes), (3 * BLOCK, 3 * BLOCK));
    assert_eq!(rig.store.encrypt(plain.manifest, &key(1)).unwrap(), made);
    // As if the disk had been taken so.
    assert_eq!(rig.take(&[1, 9, 0, 3], Some(&key(1)), None), made);
    assert!(rig.content(made.manifest, Some(&key(1))).unwrap() == content(&[1, 9, 0, 3]));

    let files = rig.files();
    let error = rig.store.encrypt(made.manifest, &key(2)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("it is encrypted already"), "{error}");
    let error = rig.store.encrypt(Digest::of(b"none"), &key(1)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    // Its first block is found, its second is damaged.
    let damaged = rig.store.manifest(plain.manifest).unwrap().segments[1];
    fs::write(rig.store.backing.place.segment(damaged), "rot").unwrap();
    let error = rig.store.encrypt(plain.manifest, &key(2)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(rig.files(), files);

    // Of nothing, which is no file.
    let nothing = rig.store.encrypt(Digest::of(b""), &key(1)).unwrap();
    assert!(rig.content(nothing.manifest, Some(&key(1))).unwrap().is_empty());
}

#[test]
fn a_sweep_needs_no_key() {
    let rig = Rig::new();
    let key = key(1);
    let first = rig.take(&[1, 2], Some(&key), None);
    let second = rig.take(&[1, 3], Some(&key), Some(first));
    let plain = rig.take(&[1, 2], None, None);
    let sweep = |wanted: &[crate::Taken]| {
        let manifests = wanted.iter().map(|taken| taken.manifest).collect();
        let wanted = Wanted {
            manifests,
            since: None,
        };
        rig.store.sweep(|| Ok(wanted)).unwrap()
    };
    let swept = Swept {
        manifests: 2,
        segments: 1,
        blocks: 1,
    };
    assert_eq!(sweep(&[second]), swept);
    assert!(rig.content(second.manifest, Some(&key)).unwrap() == content(&[1, 3]));
    assert!(rig.content(plain.manifest, None).is_err());
    let swept = Swept {
        manifests: 1,
        segments: 2,
        blocks: 0,
    };
    assert_eq!(sweep(&[]), swept);
    assert!(rig.files().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn disks_come_back_as_they_were(
        first in prop::collection::vec(0_u8..4, 1..4),
        later in prop::collection::vec(0_u8..4, 1..4),
        keys in [prop::option::of(0_u8..2), prop::option::of(0_u8..2)],
    ) {
        let rig = Rig::new();
        let keys = keys.map(|number| number.map(key));
        let base = rig.take(&first, keys[0].as_ref(), None);
        let over = rig.take(&later, keys[1].as_ref(), Some(base));
        prop_assert!(rig.content(base.manifest, keys[0].as_ref()).unwrap() == content(&first));
        prop_assert!(rig.content(over.manifest, keys[1].as_ref()).unwrap() == content(&later));
    }
}

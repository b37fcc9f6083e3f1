//! Tests of what comes from hosts piece by piece.

use std::{fs, io::ErrorKind};

use proptest::prelude::*;

use super::{Rig, block};
use crate::{BLOCK, Digest, Part, Put, SnapshotStore, UploadName, Uploads};

const ALL: u64 = 1 << 40;

fn name(number: u64, part: Part) -> UploadName {
    UploadName::new("snap-1", number, part).unwrap()
}

/// What a host has made in a store of its own: the segment that is new in it, its manifest and that one's name.
struct Made {
    segment: Vec<u8>,
    manifest: Vec<u8>,
    name: Digest,
}

fn made(blocks: &[u8], base: Option<&[u8]>) -> Made {
    let host = Rig::new();
    let base = base.map(|blocks| host.take(blocks, None, None));
    let before = host.files();
    let taken = host.take(blocks, None, base);
    let fresh = host
        .files()
        .into_iter()
        .find(|path| !before.contains(path) && path.parent().is_some_and(|dir| dir.ends_with("segments")));
    Made {
        segment: fresh.map(|path| fs::read(path).unwrap()).unwrap_or_default(),
        manifest: fs::read(host.store.backing.place.manifest(taken.manifest)).unwrap(),
        name: taken.manifest,
    }
}

fn uploads(rig: &Rig) -> Uploads {
    Uploads::new(SnapshotStore::at(&rig.path("store")))
}

fn kind<T: std::fmt::Debug>(done: std::io::Result<T>) -> ErrorKind {
    done.unwrap_err().kind()
}

#[test]
fn a_snapshot_comes_in_pieces_and_is_one() {
    let (there, made) = (Rig::new(), made(&[1, 0, 2, 3], None));
    let uploads = uploads(&there);
    let (segment, manifest) = (name(1, Part::Segment), name(2, Part::Manifest));
    let two = usize::try_from(2 * BLOCK).unwrap();
    for (at, piece) in (0..).zip(made.segment.chunks(two)) {
        let there = at * 2 * BLOCK + piece.len() as u64;
        for _ in 0..2 {
            let put = uploads.put(&segment, at * 2 * BLOCK, piece, ALL).unwrap();
            assert_eq!(put, Put::There(there), "a piece that comes again is there once");
        }
    }
    let gap = uploads.put(&segment, 9 * BLOCK, &block(9), ALL).unwrap();
    assert_eq!(gap, Put::Gap(3 * BLOCK));
    uploads.put(&manifest, 0, &made.manifest, ALL).unwrap();
    for _ in 0..2 {
        uploads.finish(Some(&segment), &manifest, made.name, &[]).unwrap();
    }
    there.store.check(&made.name.to_string()).unwrap();
    assert_eq!(
        there.content(made.name, None).unwrap(),
        super::content(&[1, 0, 2, 3])
    );
    assert_eq!(there.files().len(), 2, "nothing else is left");
}

#[test]
fn who_was_cut_off_goes_on_also_with_a_server_that_was_started_anew() {
    let (there, made) = (Rig::new(), made(&[1, 2, 3], None));
    let (segment, manifest) = (name(1, Part::Segment), name(1, Part::Manifest));
    let half = usize::try_from(2 * BLOCK).unwrap();
    uploads(&there)
        .put(&segment, 0, &made.segment[..half], ALL)
        .unwrap();
    // A block that was being written does not count.
    let path = segment.path(&there.store);
    let mut torn = fs::read(&path).unwrap();
    torn.extend([7; 100]);
    fs::write(&path, torn).unwrap();
    let again = uploads(&there);
    assert_eq!(
        again.put(&segment, 3 * BLOCK, &block(9), ALL).unwrap(),
        Put::Gap(2 * BLOCK)
    );
    again
        .put(&segment, 2 * BLOCK, &made.segment[half..], ALL)
        .unwrap();
    again.put(&manifest, 0, &made.manifest[..20], ALL).unwrap();
    uploads(&there)
        .put(&manifest, 20, &made.manifest[20..], ALL)
        .unwrap();
    uploads(&there)
        .finish(Some(&segment), &manifest, made.name, &[])
        .unwrap();
    assert_eq!(
        there.content(made.name, None).unwrap(),
        super::content(&[1, 2, 3])
    );
}

#[test]
fn what_is_not_what_it_is_said_to_be_gets_no_name() {
    let (there, first) = (Rig::new(), made(&[1, 2], None));
    let uploads = uploads(&there);
    let (segment, manifest) = (name(1, Part::Segment), name(1, Part::Manifest));
    uploads.put(&manifest, 0, &first.manifest, ALL).unwrap();
    let wrong = Digest::of(b"another");
    assert_eq!(
        kind(uploads.finish(None, &manifest, wrong, &[])),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        kind(uploads.finish(Some(&segment), &manifest, first.name, &[])),
        ErrorKind::NotFound,
        "the segment did not come"
    );
    // It came with other bytes.
    uploads
        .put(&segment, 0, &[block(1), block(1)].concat(), ALL)
        .unwrap();
    let error = uploads
        .finish(Some(&segment), &manifest, first.name, &[])
        .unwrap_err();
    assert!(error.to_string().contains("which is not of its base"), "{error}");
    // One that names nothing that there is.
    let text = name(3, Part::Manifest);
    uploads.put(&text, 0, b"no manifest", ALL).unwrap();
    assert_eq!(
        kind(uploads.finish(None, &text, Digest::of(b"no manifest"), &[])),
        ErrorKind::InvalidInput
    );
    for upload in [&segment, &manifest, &text] {
        uploads.give_up(upload).unwrap();
        uploads.give_up(upload).unwrap();
    }
    assert_eq!(there.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_a_host_was_not_given_it_can_not_name() {
    let (there, mine) = (Rig::new(), made(&[1, 2], None));
    // Another's snapshot, and one over it that a host has made, which knows its digests.
    let others = there.take(&[1, 5], None, None);
    let over = made(&[1, 6], Some(&[1, 5]));
    let uploads = uploads(&there);
    let (segment, manifest) = (name(1, Part::Segment), name(1, Part::Manifest));
    uploads.put(&segment, 0, &over.segment, ALL).unwrap();
    uploads.put(&manifest, 0, &over.manifest, ALL).unwrap();
    let finish = |granted: &[Digest]| uploads.finish(Some(&segment), &manifest, over.name, granted);
    assert_eq!(kind(finish(&[])), ErrorKind::InvalidInput);
    assert_eq!(kind(finish(&[mine.name])), ErrorKind::NotFound, "no such base");
    finish(&[others.manifest]).unwrap();
    assert_eq!(there.content(over.name, None).unwrap(), super::content(&[1, 6]));
    assert_eq!(uploads.segments_of(over.name).unwrap().len(), 2);
}

/// A piece that waits while its upload gets its name, and one that comes after it, would be written into what others
/// read.
#[test]
fn nobody_writes_into_what_has_a_name() {
    let (there, made) = (Rig::new(), made(&[1, 2], None));
    let uploads = uploads(&there);
    let (segment, manifest) = (name(1, Part::Segment), name(1, Part::Manifest));
    uploads.put(&segment, 0, &made.segment, ALL).unwrap();
    uploads.put(&manifest, 0, &made.manifest, ALL).unwrap();
    let end = made.manifest.len() as u64;
    std::thread::scope(|scope| {
        let late = scope.spawn(|| {
            let kept = |put| matches!(put, Put::There(has) | Put::Gap(has) if has <= end + 1);
            let puts = (0..200).map(|_| uploads.put(&manifest, end, b"x", ALL).unwrap());
            assert!(puts.into_iter().all(kept));
        });
        // Which of both is first is chance: it is the manifest, or it is refused.
        let done = uploads.finish(Some(&segment), &manifest, made.name, &[]);
        late.join().unwrap();
        if done.is_err() {
            uploads.give_up(&manifest).unwrap();
            uploads.put(&manifest, 0, &made.manifest, ALL).unwrap();
            uploads.finish(Some(&segment), &manifest, made.name, &[]).unwrap();
        }
    });
    assert_eq!(
        uploads.put(&manifest, end, b"x", ALL).unwrap(),
        Put::Gap(0),
        "another one"
    );
    assert_eq!(
        uploads.put(&segment, 2 * BLOCK, &block(9), ALL).unwrap(),
        Put::Gap(0)
    );
    assert_eq!(there.content(made.name, None).unwrap(), super::content(&[1, 2]));
    let kept = there.store.backing.place.manifest(made.name);
    assert_eq!(fs::read(kept).unwrap(), made.manifest);
}

#[test]
fn uploads_have_their_limits() {
    let there = Rig::new();
    let uploads = uploads(&there);
    let segment = name(1, Part::Segment);
    assert_eq!(
        kind(uploads.put(&segment, 0, &[1; 100], ALL)),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        kind(uploads.put(&segment, BLOCK, &block(1), BLOCK)),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        kind(uploads.put(&segment, u64::MAX, &block(1), BLOCK)),
        ErrorKind::InvalidInput
    );
    assert_eq!(there.files().len(), 0, "nothing was begun");
    for wrong in ["", "../x", "Snap", "a/b", "a.new", &"a".repeat(65)] {
        assert_eq!(UploadName::new(wrong, 1, Part::Segment), None, "{wrong}");
    }
    for number in 0..200 {
        let manifest = name(number, Part::Manifest);
        uploads.put(&manifest, 0, b"x", ALL).unwrap();
        assert!(uploads.open().len() <= crate::uploads::OPEN);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However it is cut, repeated and taken up anew, it is what it was.
    #[test]
    fn any_cut_of_a_manifest_is_that_manifest(
        cuts in prop::collection::vec(1_usize..200, 1..12),
        anew in prop::collection::vec(any::<bool>(), 12),
        back in 0_usize..40,
    ) {
        let (there, made) = (Rig::new(), made(&[1, 0, 2, 3], None));
        let (segment, manifest) = (name(1, Part::Segment), name(1, Part::Manifest));
        let mut server = uploads(&there);
        server.put(&segment, 0, &made.segment, ALL).unwrap();
        let mut at = 0;
        for (cut, is_anew) in cuts.into_iter().cycle().zip(anew.into_iter().cycle()) {
            if at == made.manifest.len() {
                break;
            }
            if is_anew {
                server = uploads(&there);
            }
            let (from, end) = (at.saturating_sub(back), (at + cut).min(made.manifest.len()));
            let put = server.put(&manifest, from as u64, &made.manifest[from..end], ALL).unwrap();
            prop_assert_eq!(put, Put::There(end as u64));
            at = end;
        }
        server.finish(Some(&segment), &manifest, made.name, &[]).unwrap();
        prop_assert_eq!(there.content(made.name, None).unwrap(), super::content(&[1, 0, 2, 3]));
    }
}

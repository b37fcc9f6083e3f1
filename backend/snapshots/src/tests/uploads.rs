//! Tests of what comes from hosts piece by piece.

use std::{fs, io::ErrorKind};

use proptest::prelude::*;

use super::{Rig, block};
use crate::{BLOCK, Digest, Most, Part, Put, SnapshotStore, UploadName, Uploads};

const ALL: Most = Most {
    segment: 1 << 40,
    manifest: 1 << 40,
};

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
        kind(uploads.put(&segment, 1, &block(1), ALL)),
        ErrorKind::InvalidInput
    );
    let one = Most {
        segment: BLOCK,
        manifest: 10,
    };
    assert_eq!(
        kind(uploads.put(&segment, BLOCK, &block(1), one)),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        kind(uploads.put(&segment, u64::MAX, &block(1), one)),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        kind(uploads.put(&name(1, Part::Manifest), 0, &[1; 11], one)),
        ErrorKind::InvalidInput
    );
    let nowhere = uploads.put(&segment, 7 * BLOCK, &block(1), ALL);
    assert_eq!(nowhere.unwrap(), Put::Gap(0), "it was not begun at its beginning");
    assert_eq!(there.files().len(), 0, "nothing was begun");
    for wrong in ["", "../x", "Snap", "a/b", "a.new", &"a".repeat(65)] {
        assert_eq!(UploadName::new(wrong, 1, Part::Segment), None, "{wrong}");
    }
    for number in 0..200 {
        let of_another = UploadName::new(&format!("snap-{number}"), 1, Part::Manifest).unwrap();
        uploads.put(&of_another, 0, b"x", ALL).unwrap();
        assert!(uploads.open() <= crate::uploads::OPEN);
    }
}

/// Whatever numbers a host makes up, what comes of a snapshot takes the room of one.
#[test]
fn of_each_part_there_is_the_newest_upload_alone() {
    let (there, first) = (Rig::new(), made(&[1, 2], None));
    let server = uploads(&there);
    let bytes = || -> u64 {
        let files = there.files().into_iter();
        files.map(|path| fs::metadata(path).unwrap().len()).sum()
    };
    for number in 0..200 {
        for part in [Part::Segment, Part::Manifest] {
            server.put(&name(number, part), 0, &block(1), ALL).unwrap();
        }
        assert_eq!((there.files().len(), bytes()), (2, 2 * BLOCK), "{number}");
    }
    // The one before is gone, and does not begin anew: whoever brings it has an answer, so that two don't end each other's.
    let (old, new) = (name(198, Part::Segment), name(199, Part::Segment));
    let error = server.put(&old, BLOCK, &block(1), ALL).unwrap_err();
    assert!(error.to_string().contains("a newer upload"), "{error}");
    server.give_up(&old).unwrap();
    let put = server.put(&new, BLOCK, &block(2), ALL).unwrap();
    assert_eq!(put, Put::There(2 * BLOCK), "and this one is what it was");
    // So it is with a server that was started anew, which finds what there is.
    let again = uploads(&there);
    assert_eq!(again.put(&old, BLOCK, &block(1), ALL).unwrap(), Put::Gap(0));
    again.put(&old, 0, &block(1), ALL).unwrap();
    assert_eq!((there.files().len(), bytes()), (2, 2 * BLOCK));
    // Others' are others'.
    for other in ["snap-10", "snap-1-0", "snap"] {
        let segment = UploadName::new(other, 7, Part::Segment).unwrap();
        again.put(&segment, 0, &block(1), ALL).unwrap();
    }
    let (segment, manifest) = (name(7, Part::Segment), name(8, Part::Manifest));
    again.put(&segment, 0, &first.segment, ALL).unwrap();
    again.put(&manifest, 0, &first.manifest, ALL).unwrap();
    assert_eq!(there.files().len(), 5);
    again.finish(Some(&segment), &manifest, first.name, &[]).unwrap();
    assert_eq!(there.content(first.name, None).unwrap(), super::content(&[1, 2]));
}

/// What has got a name for a snapshot stays for as long as one is being taken, and is counted.
#[test]
fn a_snapshot_is_not_brought_again_and_again() {
    let there = Rig::new();
    let uploads = uploads(&there);
    let (segment, manifest) = (name(1, Part::Segment), name(1, Part::Manifest));
    let most = Most {
        segment: 2 * BLOCK,
        manifest: 1000,
    };
    let bring = |blocks: &[u8]| {
        let made = made(blocks, None);
        uploads.put(&segment, 0, &made.segment, most)?;
        uploads.put(&manifest, 0, &made.manifest, most)?;
        uploads.finish(Some(&segment), &manifest, made.name, &[])
    };
    // The same again is there once.
    for _ in 0..10 {
        bring(&[1, 2]).unwrap();
    }
    for number in [3, 4, 5] {
        bring(&[number, number + 10]).unwrap();
    }
    let error = bring(&[6, 7]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("with all that was brought"), "{error}");
    assert_eq!(there.files().len(), 8, "four of them, and nothing of the fifth");
    // Another snapshot has its own.
    let of_another = UploadName::new("snap-2", 1, Part::Segment).unwrap();
    uploads.put(&of_another, 0, &block(6), most).unwrap();
}

/// A manifest that names its segment again and again would be as much in memory of whoever reads it.
#[test]
fn a_manifest_names_each_segment_once() {
    let (there, made) = (Rig::new(), made(&[1, 2], None));
    let uploads = uploads(&there);
    let (segment, manifest) = (name(1, Part::Segment), name(1, Part::Manifest));
    uploads.put(&segment, 0, &made.segment, ALL).unwrap();
    // Magic and size, so many segments, so many blocks, and then both.
    let (head, blocks) = (&made.manifest[..16], &made.manifest[20..24]);
    let (one, rest) = made.manifest[24..].split_at(32);
    for times in [2, 10_000, 1] {
        let (count, names) = (u32::try_from(times).unwrap().to_be_bytes(), one.repeat(times));
        let all = [head, count.as_slice(), blocks, names.as_slice(), rest].concat();
        uploads.give_up(&manifest).unwrap();
        uploads.put(&manifest, 0, &all, ALL).unwrap();
        let done = uploads.finish(Some(&segment), &manifest, Digest::of(&all), &[]);
        let refusal = (times > 1).then_some(ErrorKind::InvalidInput);
        assert_eq!(done.err().map(|error| error.kind()), refusal, "{times}");
    }
    there.store.check(&made.name.to_string()).unwrap();
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

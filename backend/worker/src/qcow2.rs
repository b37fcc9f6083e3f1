//! The headers of qcow2 files that guests' processes write. One that somebody has taken over writes into its disk's header
//! what it likes, and QEMU opens what a header names as whoever runs it, which is root for the worker's programs. So a
//! header names nothing but what its disk was made over, or the disk is not opened. Whoever tells a program of QEMU's of a
//! disk (`document.rs`) looks here first.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// What is read of a file: the first cluster of one that a host makes, which has all of the header.
const READ: u64 = 64 << 10;

const MAGIC: &[u8] = b"QFI\xfb";

/// The feature of keeping the data in another file, which the header names.
const DATA_FILE: u64 = 1 << 2;

/// The other features without which a file can't be read: dirty, corrupt, compression type, larger second-level tables.
const KNOWN: u64 = 1 | (1 << 1) | (1 << 3) | (1 << 4);

/// The extension that names the file with the data.
const DATA_FILE_NAME: u32 = 0x4441_5441;

/// Extensions that are looked at; a header has a handful.
const EXTENSIONS: usize = 32;

/// A root's file is called so, in its instance's directory.
const ROOT: &str = "disk";

const CUT: &str = "it ends inside its header";

/// A disk whose file is not as its host has made it. Nothing is done with it, however often it is tried.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", .path.display())]
pub(crate) struct Altered {
    path: PathBuf,
    why: String,
}

impl Altered {
    /// The error of a disk.
    pub(crate) fn error(path: &Path, why: String) -> io::Error {
        let path = path.to_owned();
        io::Error::new(io::ErrorKind::InvalidData, Altered { path, why })
    }

    /// The disk that an error is about, where it is such a one.
    pub(crate) fn of(error: &io::Error) -> Option<&Altered> {
        error.get_ref()?.downcast_ref::<Altered>()
    }

    /// In words for its owner.
    pub(crate) fn told(&self) -> String {
        format!("{} is not as its host has made it", named(&self.path))
    }
}

/// A disk by its file: a volume, or a copy for a snapshot, has that name; a root is its instance's.
fn named(path: &Path) -> String {
    let text = |name: Option<&OsStr>| name.map(|name| name.to_string_lossy().into_owned());
    let stem = text(path.file_stem()).unwrap_or_default();
    match text(path.parent().and_then(Path::file_name)) {
        Some(instance) if stem == ROOT => format!("the root of {instance}"),
        _ => stem,
    }
}

/// A file that nobody writes now names no other file than the one that it lies over, `over`. It may name none all the
/// same: a disk that was made to lie over nothing, by a worker that ended before it could say so, does.
pub(crate) fn look(path: &Path, over: Option<&Path>) -> io::Result<()> {
    let mut header = Vec::new();
    File::open(path)?.take(READ).read_to_end(&mut header)?;
    look_at(&header, path, over)
}

/// The same of what a disk that is no file begins with.
pub(crate) fn look_at(header: &[u8], path: &Path, over: Option<&Path>) -> io::Result<()> {
    judge(header, over).map_err(|why| {
        tracing::error!(
            disk = %path.display(),
            why,
            "ALARM: a disk is not as this host has made it, and is not opened: the process that had it may have been \
             taken over"
        );
        Altered::error(path, why)
    })
}

/// The size of the disk that has this header.
pub(crate) fn disk_bytes(header: &[u8]) -> io::Result<u64> {
    let bytes = match header.starts_with(MAGIC) {
        true => u64_at(header, 24),
        false => Err("a disk is no qcow2".to_owned()),
    };
    bytes.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Judges the beginning of a file; why it is refused. Layout: QEMU's docs/interop/qcow2.txt.
fn judge(header: &[u8], over: Option<&Path>) -> Result<(), String> {
    if !header.starts_with(MAGIC) {
        return Err("it is no qcow2".into());
    }
    let version = u32_at(header, 4)?;
    let (length, features) = match version {
        2 => (72, 0),
        3 => (u64::from(u32_at(header, 100)?), u64_at(header, 72)?),
        _ => return Err(format!("it has version {version}")),
    };
    if features & DATA_FILE != 0 {
        return Err("it keeps its data in another file".into());
    }
    if features & !KNOWN != 0 {
        return Err(format!("it has features {features:#x} that are not known"));
    }
    let cluster_bits = u32_at(header, 20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(format!("it has clusters of 2^{cluster_bits} bytes"));
    }
    match (backing(header)?, over) {
        (None, _) => {}
        (Some(name), Some(image)) if is_named(name, image) => {}
        (Some(name), _) => {
            let name = String::from_utf8_lossy(name);
            return Err(format!("it names the file {name:?} as what it lies over"));
        }
    }
    // As QEMU has it: they end where the name of the file below begins, if there is one.
    let end = match u64_at(header, 8)? {
        0 => 1 << cluster_bits,
        name => name,
    };
    extensions(header, length, end)
}

/// The name of the file below; `None` where there is none. (One that was taken away leaves a name of no bytes.)
fn backing(header: &[u8]) -> Result<Option<&[u8]>, String> {
    let (offset, length) = (u64_at(header, 8)?, u32_at(header, 16)?);
    if offset == 0 || length == 0 {
        return Ok(None);
    }
    let name = || {
        let (begin, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        header.get(begin..begin.checked_add(length)?)
    };
    match name() {
        Some(name) => Ok(Some(name)),
        None => Err("it names a file below outside of its header".into()),
    }
}

/// Whether a header's name is an image's, which is called by its digest. The image's directory may have been another when
/// the disk was made, since a cloud can be moved; where the image is now QEMU is told, and does not look for the name.
fn is_named(name: &[u8], image: &Path) -> bool {
    !name.contains(&0) && Path::new(OsStr::from_bytes(name)).file_name() == image.file_name()
}

/// None of the extensions from here to there names a file.
fn extensions(header: &[u8], begin: u64, end: u64) -> Result<(), String> {
    let mut at = begin;
    for _ in 0..EXTENSIONS {
        if at >= end {
            return Ok(());
        }
        let place = usize::try_from(at).map_err(|_| CUT)?;
        let (kind, bytes) = (u32_at(header, place)?, u32_at(header, place.saturating_add(4))?);
        match kind {
            0 => return Ok(()),
            DATA_FILE_NAME => return Err("it names a file with its data".into()),
            _ => at += 8 + u64::from(bytes).next_multiple_of(8),
        }
    }
    Err("its header has extensions without an end".into())
}

/// A number with its most significant byte first.
fn u32_at(header: &[u8], at: usize) -> Result<u32, String> {
    let found = header.get(at..).and_then(<[u8]>::first_chunk);
    found.copied().map(u32::from_be_bytes).ok_or_else(|| CUT.into())
}

fn u64_at(header: &[u8], at: usize) -> Result<u64, String> {
    let found = header.get(at..).and_then(<[u8]>::first_chunk);
    found.copied().map(u64::from_be_bytes).ok_or_else(|| CUT.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKING_FORMAT: u32 = 0xe279_2aca;
    const FEATURE_NAMES: u32 = 0x6803_f857;

    /// A file's first cluster.
    fn header(version: u32, features: u64, extensions: &[(u32, &[u8])], name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 << 10];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, MAGIC);
        put(4, &version.to_be_bytes());
        put(20, &16_u32.to_be_bytes());
        let mut at = 72;
        if version == 3 {
            put(72, &features.to_be_bytes());
            put(100, &104_u32.to_be_bytes());
            at = 104;
        }
        for (kind, content) in extensions {
            put(at, &kind.to_be_bytes());
            put(at + 4, &u32::try_from(content.len()).unwrap().to_be_bytes());
            put(at + 8, content);
            at += 8 + content.len().next_multiple_of(8);
        }
        at += 8;
        // As QEMU leaves it also where it has taken the name away.
        put(8, &(at as u64).to_be_bytes());
        put(16, &u32::try_from(name.len()).unwrap().to_be_bytes());
        put(at, name);
        bytes
    }

    fn of(name: &[u8]) -> Vec<u8> {
        header(3, 0, &[(FEATURE_NAMES, &[7; 48]), (BACKING_FORMAT, b"raw")], name)
    }

    #[test]
    fn a_header_names_nothing_but_what_its_disk_was_made_over() {
        let image = Path::new("/c/cache/abc");
        for (name, over, is_fine) in [
            (&b""[..], None, true),
            (b"", Some(image), true),
            (b"/c/cache/abc", Some(image), true),
            // Before the cloud was moved.
            (b"/before/cache/abc", Some(image), true),
            (b"/c/cache/abc", None, false),
            (b"/c/master.key", None, false),
            (b"/c/master.key", Some(image), false),
            (b"/c/cache/abcd", Some(image), false),
            (b"/c/master.key\0/abc", Some(image), false),
            (b"json:{}", Some(image), false),
            (b"..", Some(image), false),
        ] {
            for bytes in [of(name), header(2, 0, &[], name)] {
                let told = String::from_utf8_lossy(name);
                assert_eq!(judge(&bytes, over).is_ok(), is_fine, "{told:?} {over:?}");
            }
        }
    }

    #[test]
    fn what_keeps_its_data_elsewhere_or_is_not_known_is_refused() {
        for features in [0, 1, 1 << 1, 1 << 3, 1 << 4, KNOWN] {
            assert_eq!(judge(&header(3, features, &[], b""), None), Ok(()), "{features}");
        }
        for (bytes, why) in [
            (header(3, DATA_FILE, &[], b""), "keeps its data in another file"),
            (header(3, 1 << 5, &[], b""), "features"),
            (header(3, 0, &[(DATA_FILE_NAME, b"/c/key")], b""), "names a file"),
            (header(2, 0, &[(DATA_FILE_NAME, b"/c/key")], b""), "names a file"),
            (header(3, 0, &[(1, &b""[..]); 40], b""), "without an end"),
            (header(1, 0, &[], b""), "version 1"),
            (vec![0; 512], "no qcow2"),
            (Vec::new(), "no qcow2"),
        ] {
            let said = judge(&bytes, None).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn nothing_beyond_the_first_piece_is_looked_for() {
        let good = of(b"/c/abc");
        for length in [4, 24, 71, 103, 110, 120, 189] {
            assert!(
                judge(&good[..length], Some(Path::new("/c/abc"))).is_err(),
                "{length}"
            );
        }
        let changed = |at: usize, what: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + what.len()].copy_from_slice(what);
            judge(&bytes, Some(Path::new("/c/abc"))).unwrap_err()
        };
        assert!(changed(8, &u64::MAX.to_be_bytes()).contains("outside of its header"));
        assert!(changed(16, &u32::MAX.to_be_bytes()).contains("outside of its header"));
        assert!(changed(20, &[0xff; 4]).contains("clusters"));
        // The first extension, in clusters that are larger than what is read.
        let mut bytes = header(3, 0, &[(FEATURE_NAMES, b"")], b"");
        bytes[8..16].copy_from_slice(&[0; 8]);
        bytes[20..24].copy_from_slice(&21_u32.to_be_bytes());
        assert_eq!(judge(&bytes, None), Ok(()));
        bytes[108..112].copy_from_slice(&(1_u32 << 20).to_be_bytes());
        assert_eq!(judge(&bytes, None), Err(CUT.to_owned()));
    }

    #[test]
    fn a_disk_is_named_for_its_owner_without_its_path() {
        for (path, name) in [
            ("/s/volumes/vol-0123.qcow2", "vol-0123"),
            ("/s/instances/i-0123/disk.qcow2", "the root of i-0123"),
            ("/s/instances/i-0123/vol-0123.qcow2", "vol-0123"),
            ("/s/instances/i-0123/snap-0123.copy", "snap-0123"),
        ] {
            assert_eq!(named(Path::new(path)), name);
        }
    }
}

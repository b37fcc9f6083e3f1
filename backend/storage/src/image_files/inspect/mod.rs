//! The inspection of image files: what a file is, decided from its bytes, and whether it is safe to give to
//! QEMU. Written here, in safe Rust, because `qemu-img` follows what a file names: a backing file, a data
//! file, a parent. What was declared and what is found must agree, and only raw disks and self-contained
//! qcow2 pass. Layout of the qcow2 header: QEMU's docs/interop/qcow2.txt.

use std::io::{self, Read, Seek, SeekFrom};

use cumulet_domain::image::DiskFormat;

/// The largest disk that an image may describe: 16 TiB, EBS's limit for a volume.
const MAX_VIRTUAL: u64 = 16 << 40;

/// A file that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What it is.
    pub format: DiskFormat,
    /// The size of the disk that it describes, in bytes.
    pub virtual_bytes: u64,
}

/// Why a file may not be imported.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Rejected {
    #[error("the file could not be read: {0}")]
    Io(#[from] io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("the file is {found}, not {declared}; {right}")]
    NotAsDeclared {
        found: &'static str,
        declared: &'static str,
        right: &'static str,
    },
    #[error(
        "the file is {0}; only raw and qcow2 can be imported (convert it with qemu-img convert -O qcow2)"
    )]
    Unsupported(&'static str),
    #[error("this qcow2 {0}")]
    Unsafe(String),
}

/// Formats by their first bytes (offset, magic, name).
const MAGIC: &[(u64, &[u8], &str)] = &[
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "a VMDK"),
    (0, b"COWD", "a VMDK"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    (0, b"vhdxfile", "a VHDX"),
    (0, b"conectix", "a VHD"),
    (0, b"QED\0", "a QED image"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (0, b"WithoutFreeSpace", "a Parallels image"),
    (0, b"WithouFreSpacExt", "a Parallels image"),
    (0, b"Bochs Virtual HD Image", "a Bochs image"),
    (0, b"#!/bin/sh\n#V2.0 Format", "a cloop image"),
    (0, b"json:", "a QEMU file reference"),
    (0, b"OOOM", "a QEMU image"),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"\xfd7zXZ\0", "xz data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data"),
    (0, b"BZh", "bzip2 data"),
    (0, b"PK\x03\x04", "a ZIP archive"),
];

/// Looks at a file that was declared to be `declared`.
///
/// # Errors
/// [`Rejected`], with the reason in words.
pub fn inspect(file: &mut (impl Read + Seek), declared: DiskFormat) -> Result<Inspected, Rejected> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 {
        return Err(Rejected::Empty);
    }
    match (magic(file, length)?, declared) {
        (Some("qcow2"), DiskFormat::Qcow2) => qcow2(file, length),
        (None, DiskFormat::Raw) => Ok(Inspected {
            format: DiskFormat::Raw,
            virtual_bytes: length.next_multiple_of(512),
        }),
        (Some(found @ "qcow2"), DiskFormat::Raw) => Err(Rejected::NotAsDeclared {
            found,
            declared: "raw",
            right: "say --format qcow2",
        }),
        (Some(found), _) => Err(Rejected::Unsupported(found)),
        (None, DiskFormat::Qcow2) => Err(Rejected::NotAsDeclared {
            found: "of no known format by its first bytes",
            declared: "qcow2",
            right: "if it is the plain bytes of a disk, say --format raw",
        }),
    }
}

fn magic(file: &mut (impl Read + Seek), length: u64) -> Result<Option<&'static str>, Rejected> {
    for (offset, bytes, name) in MAGIC {
        if at(file, *offset, bytes.len())?.as_deref() == Some(*bytes) {
            return Ok(Some(name));
        }
    }
    // A fixed VHD is a raw disk with a footer, and QEMU would know it by that.
    let footer = length.checked_sub(512).filter(|_| length > 512);
    match footer {
        Some(footer) if at(file, footer, 8)?.as_deref() == Some(b"conectix") => Ok(Some("a VHD")),
        _ => Ok(None),
    }
}

/// `count` bytes at `offset`; `None` where the file ends before.
fn at(file: &mut (impl Read + Seek), offset: u64, count: usize) -> io::Result<Option<Vec<u8>>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; count];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn qcow2(file: &mut (impl Read + Seek), length: u64) -> Result<Inspected, Rejected> {
    let unsafe_ = |what: &str| Rejected::Unsafe(what.to_owned());
    let short = || unsafe_("ends inside its header");
    let header = at(file, 0, 72)?.ok_or_else(short)?;
    let u32_at = |bytes: &[u8], i: usize| {
        bytes
            .get(i..i + 4)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_be_bytes)
    };
    let u64_at = |bytes: &[u8], i: usize| {
        bytes
            .get(i..i + 8)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_be_bytes)
    };
    let version = u32_at(&header, 4);
    if !(2..=3).contains(&version) {
        return Err(Rejected::Unsafe(format!(
            "has version {version}; 2 and 3 can be imported"
        )));
    }
    if u64_at(&header, 8) != 0 || u32_at(&header, 16) != 0 {
        return Err(unsafe_(
            "has a backing file; flatten it with qemu-img convert -O qcow2",
        ));
    }
    let cluster_bits = u32_at(&header, 20);
    if !(9..=21).contains(&cluster_bits) {
        return Err(Rejected::Unsafe(format!(
            "has clusters of 2^{cluster_bits} bytes; 9 to 21 are valid"
        )));
    }
    if u32_at(&header, 32) != 0 {
        return Err(unsafe_("is encrypted"));
    }
    if u32_at(&header, 60) != 0 {
        return Err(unsafe_("holds internal snapshots"));
    }
    let virtual_bytes = u64_at(&header, 24);
    if virtual_bytes == 0 || virtual_bytes > MAX_VIRTUAL {
        return Err(Rejected::Unsafe(format!(
            "describes a disk of {virtual_bytes} bytes; 1 to {MAX_VIRTUAL} can be imported"
        )));
    }
    tables(&header, length, cluster_bits, virtual_bytes, u32_at, u64_at)?;
    if version == 3 {
        features(file, u32_at, u64_at)?;
    }
    Ok(Inspected {
        format: DiskFormat::Qcow2,
        virtual_bytes,
    })
}

/// The first-level and the refcount table lie inside the file and are no larger than the disk needs.
fn tables(
    header: &[u8],
    length: u64,
    cluster_bits: u32,
    virtual_bytes: u64,
    u32_at: impl Fn(&[u8], usize) -> u32,
    u64_at: impl Fn(&[u8], usize) -> u64,
) -> Result<(), Rejected> {
    let (entries, start) = (u64::from(u32_at(header, 36)), u64_at(header, 40));
    let covered_bits = 2 * cluster_bits - 3; // one entry: a second-level table of cluster / 8 clusters
    let needed = virtual_bytes.div_ceil(1 << covered_bits);
    let refcounts = u64::from(u32_at(header, 56)) << cluster_bits;
    let inside = |start: u64, bytes: u64| start.checked_add(bytes).is_some_and(|end| end <= length);
    if entries < needed || entries > needed.max(1) * 2 + 64 || !inside(start, entries * 8) {
        return Err(Rejected::Unsafe(
            "has a first-level table that does not fit its size".into(),
        ));
    }
    if refcounts > 64 << 20 || !inside(u64_at(header, 48), refcounts) {
        return Err(Rejected::Unsafe(
            "has a refcount table that does not fit its size".into(),
        ));
    }
    Ok(())
}

/// Version 3: no external data file, nothing that we don't know, and no extension that names a file.
fn features(
    file: &mut (impl Read + Seek),
    u32_at: impl Fn(&[u8], usize) -> u32,
    u64_at: impl Fn(&[u8], usize) -> u64,
) -> Result<(), Rejected> {
    const CORRUPT: u64 = 1 << 1;
    const DATA_FILE: u64 = 1 << 2;
    const KNOWN: u64 = 1 | (1 << 3); // dirty; compression type
    const BACKING_FORMAT: u32 = 0xe279_2aca;
    const DATA_FILE_NAME: u32 = 0x4441_5441;
    const ENCRYPTION: u32 = 0x0537_be77;
    let header = at(file, 0, 104)?.ok_or_else(|| Rejected::Unsafe("ends inside its header".into()))?;
    let incompatible = u64_at(&header, 72);
    if incompatible & DATA_FILE != 0 {
        return Err(Rejected::Unsafe("keeps its data in another file".into()));
    }
    if incompatible & CORRUPT != 0 {
        return Err(Rejected::Unsafe("is marked as corrupt".into()));
    }
    if incompatible & !KNOWN != 0 {
        return Err(Rejected::Unsafe(format!(
            "has incompatible features {incompatible:#x} that are not known"
        )));
    }
    let mut offset = u64::from(u32_at(&header, 100));
    // Extensions end with a zero type; a header has a handful at the most.
    for _ in 0..32 {
        let Some(extension) = at(file, offset, 8)? else {
            break;
        };
        let (kind, bytes) = (u32_at(&extension, 0), u64::from(u32_at(&extension, 4)));
        match kind {
            0 => return Ok(()),
            BACKING_FORMAT => return Err(Rejected::Unsafe("names a backing format".into())),
            DATA_FILE_NAME => return Err(Rejected::Unsafe("names a data file".into())),
            ENCRYPTION => return Err(Rejected::Unsafe("is encrypted".into())),
            _ => offset += 8 + bytes.next_multiple_of(8),
        }
    }
    Err(Rejected::Unsafe("has header extensions without an end".into()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A version 3 header of a 1 MiB disk with 64 KiB clusters, and room for its tables.
    fn good() -> Vec<u8> {
        let mut bytes = vec![0_u8; 0x40000];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        let put32 = |bytes: &mut [u8], i: usize, v: u32| bytes[i..i + 4].copy_from_slice(&v.to_be_bytes());
        put32(&mut bytes, 4, 3);
        put32(&mut bytes, 20, 16);
        bytes[24..32].copy_from_slice(&(1_u64 << 20).to_be_bytes());
        put32(&mut bytes, 36, 1);
        bytes[40..48].copy_from_slice(&0x30000_u64.to_be_bytes());
        bytes[48..56].copy_from_slice(&0x10000_u64.to_be_bytes());
        put32(&mut bytes, 56, 1);
        put32(&mut bytes, 96, 4);
        put32(&mut bytes, 100, 104);
        bytes
    }

    fn look(bytes: Vec<u8>, declared: DiskFormat) -> Result<Inspected, String> {
        inspect(&mut Cursor::new(bytes), declared).map_err(|rejected| rejected.to_string())
    }

    fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut image = good();
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
        image
    }

    #[test]
    fn a_self_contained_qcow2_passes() {
        assert_eq!(
            look(good(), DiskFormat::Qcow2),
            Ok(Inspected {
                format: DiskFormat::Qcow2,
                virtual_bytes: 1 << 20
            })
        );
    }

    #[test]
    fn a_raw_disk_passes_and_counts_whole_sectors() {
        let disk = vec![0x33; 1000];
        assert_eq!(
            look(disk, DiskFormat::Raw),
            Ok(Inspected {
                format: DiskFormat::Raw,
                virtual_bytes: 1024
            })
        );
    }

    #[test]
    fn dangerous_qcow2_files_are_refused_by_name() {
        let cases: [(&str, Vec<u8>); 13] = [
            ("backing file", with(8, &0x200_u64.to_be_bytes())),
            ("backing file", with(16, &5_u32.to_be_bytes())),
            ("another file", with(72, &4_u64.to_be_bytes())),
            ("corrupt", with(72, &2_u64.to_be_bytes())),
            ("not known", with(72, &0x20_u64.to_be_bytes())),
            ("encrypted", with(32, &2_u32.to_be_bytes())),
            ("snapshots", with(60, &1_u32.to_be_bytes())),
            ("version 4", with(4, &4_u32.to_be_bytes())),
            ("clusters", with(20, &30_u32.to_be_bytes())),
            ("a disk of", with(24, &(1_u64 << 60).to_be_bytes())),
            ("first-level", with(36, &0xffff_ffff_u32.to_be_bytes())),
            (
                "names a data file",
                with(104, &[0x44, 0x41, 0x54, 0x41, 0, 0, 0, 8]),
            ),
            (
                "names a backing format",
                with(104, &[0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 8]),
            ),
        ];
        for (named, image) in cases {
            let error = look(image, DiskFormat::Qcow2).unwrap_err();
            assert!(error.contains(named), "{error} should speak of {named}");
        }
    }

    #[test]
    fn what_is_declared_and_what_is_found_must_agree() {
        for (file, declared, what, right) in [
            (good(), DiskFormat::Raw, "not raw", "--format qcow2"),
            (vec![1; 4096], DiskFormat::Qcow2, "not qcow2", "--format raw"),
        ] {
            let told = look(file, declared).unwrap_err();
            assert!(told.contains(what) && told.ends_with(right), "{told}");
        }
        assert!(look(Vec::new(), DiskFormat::Raw).unwrap_err().contains("empty"));
    }

    #[test]
    fn other_formats_are_refused_whatever_is_declared() {
        for (offset, bytes, name) in MAGIC.iter().filter(|m| m.2 != "qcow2") {
            let mut image = vec![0; 4096];
            let start = usize::try_from(*offset).unwrap();
            image[start..start + bytes.len()].copy_from_slice(bytes);
            for declared in [DiskFormat::Raw, DiskFormat::Qcow2] {
                assert!(
                    look(image.clone(), declared).unwrap_err().contains(name),
                    "{name}"
                );
            }
        }
        let mut vhd = vec![0; 4096];
        vhd[3584..3592].copy_from_slice(b"conectix");
        assert!(look(vhd, DiskFormat::Raw).unwrap_err().contains("VHD"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(0_u8.., 0..600), magic: bool) {
            if magic && bytes.len() > 8 {
                bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
            }
            drop(look(bytes.clone(), DiskFormat::Qcow2));
            drop(look(bytes, DiskFormat::Raw));
        }
    }
}

//! The inspection of a qcow2: it stands by itself, and its tables fit its size. Layout: QEMU's docs/interop/qcow2.txt.

use std::io::{Read, Seek};

use super::{
    MAX_VIRTUAL, Rejected,
    bytes::{
        Bytes,
        big::{u32_at, u64_at},
    },
};

/// The bytes of a header of version 2, behind which its extensions begin.
const HEADER: u64 = 72;

/// What hosts read of a header, extensions included (`backend/worker/src/qcow2.rs`).
const READ: u64 = 64 << 10;

pub(super) fn inspect(file: &mut Bytes<'_, impl Read + Seek>) -> Result<u64, Rejected> {
    let header = file.read("header", 0, 72)?;
    let version = u32_at(&header, 4);
    if !(2..=3).contains(&version) {
        return Err(file.refuse(format_args!("has version {version}; 2 and 3 can be imported")));
    }
    if u64_at(&header, 8) != 0 || u32_at(&header, 16) != 0 {
        return Err(file.refuse("has a backing file; flatten it with qemu-img convert -O qcow2"));
    }
    let cluster_bits = u32_at(&header, 20);
    if !(9..=21).contains(&cluster_bits) {
        return Err(file.refuse(format_args!(
            "has clusters of 2^{cluster_bits} bytes; 9 to 21 are valid"
        )));
    }
    if u32_at(&header, 32) != 0 {
        return Err(file.refuse("is encrypted"));
    }
    if u32_at(&header, 60) != 0 {
        return Err(file.refuse("holds internal snapshots"));
    }
    let virtual_bytes = u64_at(&header, 24);
    if virtual_bytes == 0 || virtual_bytes > MAX_VIRTUAL {
        return Err(file.refuse(format_args!(
            "describes a disk of {virtual_bytes} bytes; 1 to {MAX_VIRTUAL} can be imported"
        )));
    }
    tables(file, &header, cluster_bits, virtual_bytes)?;
    let extended = match version {
        2 => HEADER,
        _ => features(file)?,
    };
    extensions(file, extended)?;
    Ok(virtual_bytes)
}

/// The first-level and the refcount table lie inside the file and are no larger than the disk needs.
fn tables(
    file: &Bytes<'_, impl Read + Seek>,
    header: &[u8],
    cluster_bits: u32,
    virtual_bytes: u64,
) -> Result<(), Rejected> {
    let (entries, start) = (u64::from(u32_at(header, 36)), u64_at(header, 40));
    let covered_bits = 2 * cluster_bits - 3; // one entry: a second-level table of cluster / 8 clusters
    let needed = virtual_bytes.div_ceil(1 << covered_bits);
    let refcounts = u64::from(u32_at(header, 56)) << cluster_bits;
    if entries < needed || entries > needed.max(1) * 2 + 64 || !file.has(start, entries * 8) {
        return Err(file.refuse("has a first-level table that does not fit its size"));
    }
    if refcounts > 64 << 20 || !file.has(u64_at(header, 48), refcounts) {
        return Err(file.refuse("has a refcount table that does not fit its size"));
    }
    Ok(())
}

/// Version 3: no external data file, and nothing that we don't know; where its extensions begin.
fn features(file: &mut Bytes<'_, impl Read + Seek>) -> Result<u64, Rejected> {
    const CORRUPT: u64 = 1 << 1;
    const DATA_FILE: u64 = 1 << 2;
    const KNOWN: u64 = 1 | (1 << 3); // dirty; compression type
    let header = file.read("header", 0, 104)?;
    let incompatible = u64_at(&header, 72);
    if incompatible & DATA_FILE != 0 {
        return Err(file.refuse("keeps its data in another file"));
    }
    if incompatible & CORRUPT != 0 {
        return Err(file.refuse("is marked as corrupt"));
    }
    if incompatible & !KNOWN != 0 {
        return Err(file.refuse(format_args!(
            "has incompatible features {incompatible:#x} that are not known"
        )));
    }
    Ok(u64::from(u32_at(&header, 100)))
}

/// No extension of either version names a file or a key, and hosts find them all.
fn extensions(file: &mut Bytes<'_, impl Read + Seek>, begin: u64) -> Result<(), Rejected> {
    const BACKING_FORMAT: u32 = 0xe279_2aca;
    const DATA_FILE_NAME: u32 = 0x4441_5441;
    const ENCRYPTION: u32 = 0x0537_be77;
    let mut offset = begin;
    // They end with a zero type; a header has a handful at the most.
    for _ in 0..32 {
        if offset + 8 > READ {
            return Err(file.refuse("has header extensions behind its first 64 KiB"));
        }
        let Some(extension) = file.read_if(offset, 8)? else {
            break;
        };
        let (kind, bytes) = (u32_at(&extension, 0), u64::from(u32_at(&extension, 4)));
        match kind {
            0 => return Ok(()),
            BACKING_FORMAT => return Err(file.refuse("names a backing format")),
            DATA_FILE_NAME => return Err(file.refuse("names a data file")),
            ENCRYPTION => return Err(file.refuse("is encrypted")),
            _ => offset += 8 + bytes.next_multiple_of(8),
        }
    }
    Err(file.refuse("has header extensions without an end"))
}

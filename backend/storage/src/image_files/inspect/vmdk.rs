//! The inspection of a VMDK: one file that is all of the disk, sparse (`monolithicSparse`) or as it is sent
//! (`streamOptimized`). Its descriptor, which in other kinds names files, is read word by word, and what is not known to
//! be harmless is refused. The header's layout: VMware's "Virtual Disk Format 5.0"; what QEMU makes of it:
//! block/vmdk.c.

use std::io::{Read, Seek};

use super::{
    MAX_VIRTUAL, Rejected,
    bytes::{
        Bytes,
        little::{u16_at, u32_at, u64_at},
    },
};

const SECTOR: u64 = 512;

/// The directory is told at the file's end (`streamOptimized`).
const AT_END: u64 = u64::MAX;

/// Where every program puts the descriptor, and the only place where QEMU looks for a parent.
const DESCRIPTOR: u64 = 1;

/// The sectors in which QEMU looks for a parent, whatever the header says of the descriptor's size.
const LOOKED_AT: u64 = 20;

/// The largest descriptor that is read, in sectors.
const MAX_DESCRIPTOR: u64 = 128;

/// Flags of the header.
const LINE_ENDS: u32 = 1;
const REDUNDANT: u32 = 1 << 1;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;
/// Those, and grains that are told to be zero.
const KNOWN: u32 = LINE_ENDS | REDUNDANT | 1 << 2 | COMPRESSED | MARKERS;

/// What a header says; in sectors, but for the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    flags: u32,
    capacity: u64,
    grain: u64,
    descriptor: (u64, u64),
    redundant: u64,
    directory: u64,
}

pub(super) fn inspect(file: &mut Bytes<'_, impl Read + Seek>) -> Result<u64, Rejected> {
    let header = header(file, 0)?;
    let told = if header.directory == AT_END {
        footer(file, header)?
    } else {
        header
    };
    describe(file, header)?;
    directories(file, told)?;
    Ok(header.capacity * SECTOR)
}

/// The header at an offset, with all that can be told of it alone.
fn header(file: &mut Bytes<'_, impl Read + Seek>, offset: u64) -> Result<Header, Rejected> {
    let bytes = file.read("header", offset, 512)?;
    let version = u32_at(&bytes, 4);
    let header = Header {
        flags: u32_at(&bytes, 8),
        capacity: u64_at(&bytes, 12),
        grain: u64_at(&bytes, 20),
        descriptor: (u64_at(&bytes, 28), u64_at(&bytes, 36)),
        redundant: u64_at(&bytes, 48),
        directory: u64_at(&bytes, 56),
    };
    if bytes.first_chunk() != Some(b"KDMV") {
        return Err(file.refuse("has no header where one has to be"));
    }
    if !(1..=3).contains(&version) {
        return Err(file.refuse(format_args!("has version {version}; 1 to 3 can be imported")));
    }
    if header.flags & !KNOWN != 0 {
        return Err(file.refuse(format_args!("has flags {:#x} that are not known", header.flags)));
    }
    // Without a size a header only leads to a descriptor, which leads anywhere.
    if header.capacity == 0 || header.capacity > MAX_VIRTUAL / SECTOR {
        return Err(file.refuse(format_args!(
            "describes a disk of {} sectors; 1 to {} can be imported",
            header.capacity,
            MAX_VIRTUAL / SECTOR
        )));
    }
    if !header.grain.is_power_of_two() || !(8..=2048).contains(&header.grain) {
        return Err(file.refuse(format_args!(
            "has grains of {} sectors; powers of two from 8 to 2048 are valid",
            header.grain
        )));
    }
    let entries = u32_at(&bytes, 44);
    if entries != 512 {
        return Err(file.refuse(format_args!("has tables of {entries} entries; 512 are valid")));
    }
    if header.flags & LINE_ENDS != 0 && bytes.get(73..77) != Some(b"\n \r\n") {
        return Err(file.refuse("was damaged by a transfer as text"));
    }
    if bytes.get(72) != Some(&0) {
        return Err(file.refuse("was not closed"));
    }
    let (compression, compressed) = (u16_at(&bytes, 77), header.flags & COMPRESSED != 0);
    if compression != u16::from(compressed) {
        return Err(file.refuse(format_args!(
            "is compressed by method {compression}, which is not what its flags say"
        )));
    }
    Ok(header)
}

/// The header at the end of one that was written in one go: the same but for the directory.
fn footer(file: &mut Bytes<'_, impl Read + Seek>, first: Header) -> Result<Header, Rejected> {
    let at = file.length.checked_sub(3 * SECTOR);
    let at = at.ok_or_else(|| file.refuse("ends inside its footer"))?;
    let (marker, end) = (
        file.read("footer", at, 16)?,
        file.read("footer", at + 2 * SECTOR, 16)?,
    );
    let is = |marker: &[u8], kind| u32_at(marker, 8) == 0 && u32_at(marker, 12) == kind;
    if !is(&marker, 3) || !is(&end, 0) || u64_at(&end, 0) != 0 {
        return Err(file.refuse("has no footer, which its header promises"));
    }
    let last = header(file, at + SECTOR)?;
    let same = Header {
        directory: first.directory,
        redundant: first.redundant,
        ..last
    };
    if same != first || last.directory == AT_END {
        return Err(file.refuse("has a footer that does not fit its header"));
    }
    Ok(last)
}

/// The grain directories lie inside of the file, behind header and descriptor, and so do the tables that they name.
fn directories(file: &mut Bytes<'_, impl Read + Seek>, header: Header) -> Result<(), Rejected> {
    let entries = header.capacity.div_ceil(header.grain * 512);
    let redundant = (header.flags & REDUNDANT != 0).then_some(header.redundant);
    let behind = header.descriptor.0 + header.descriptor.1; // both are small: `describe` has seen them
    let length = file.length;
    for directory in [Some(header.directory), redundant].into_iter().flatten() {
        let start = directory.checked_mul(SECTOR).filter(|_| directory >= behind);
        let start = start.ok_or_else(|| file.refuse("has a grain directory that is not where it can be"))?;
        file.table("grain directory", start, entries, |file, _, entry| {
            let table = u64::from(u32::from_le_bytes(entry));
            // 0 and 1: there is none.
            if table > 1 && (table < behind || (table + 4) * SECTOR > length) {
                return Err(file.refuse(format_args!(
                    "has a grain table at sector {table}, outside of the file"
                )));
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// What of the descriptor was seen.
#[derive(Default)]
struct Seen<'t> {
    parent: Option<&'t str>,
    kind: Option<&'t str>,
    extents: Vec<&'t str>,
}

/// The descriptor says one of the two kinds, no parent, and one extent, which is the file itself.
fn describe(file: &mut Bytes<'_, impl Read + Seek>, header: Header) -> Result<(), Rejected> {
    let (at, sectors) = header.descriptor;
    if at != DESCRIPTOR || !(1..=MAX_DESCRIPTOR).contains(&sectors) {
        return Err(file.refuse(format_args!(
            "has a descriptor of {sectors} sectors at {at}; 1 to {MAX_DESCRIPTOR} at {DESCRIPTOR} are valid"
        )));
    }
    let looked_at = sectors.max(LOOKED_AT) * SECTOR;
    let count = looked_at.min(file.length.saturating_sub(SECTOR));
    let bytes = file.read("descriptor", SECTOR, usize::try_from(count).unwrap_or(0))?;
    let names_a_parent = b"parentFileNameHint";
    if bytes
        .windows(names_a_parent.len())
        .any(|part| part == names_a_parent)
    {
        return Err(file.refuse("names a parent"));
    }
    let own = bytes.get(..usize::try_from(sectors * SECTOR).unwrap_or(0));
    let own = own.ok_or_else(|| file.refuse("ends inside its descriptor"))?;
    let text = String::from_utf8_lossy(own.split(|byte| *byte == 0).next().unwrap_or_default());
    let mut seen = Seen::default();
    for line in text.lines().map(str::trim) {
        read_line(&mut seen, line).map_err(|why| file.refuse(why))?;
    }
    judge(&seen, header).map_err(|why| file.refuse(why))
}

fn read_line<'t>(seen: &mut Seen<'t>, line: &'t str) -> Result<(), String> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    if ["RW ", "RDONLY ", "NOACCESS "]
        .iter()
        .any(|access| line.starts_with(access))
    {
        seen.extents.push(line);
        return Ok(());
    }
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let (key, value) = (key.trim(), value.trim().trim_matches('"'));
    let place = match key {
        "version" | "encoding" | "CID" | "isNativeSnapshot" => return Ok(()),
        _ if key.starts_with("ddb.") => return Ok(()),
        "parentCID" => &mut seen.parent,
        "createType" => &mut seen.kind,
        _ => {
            return Err(format!(
                "has a descriptor with {}, which is not known",
                shown(key)
            ));
        }
    };
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("has a descriptor with two of {key}")),
    }
}

fn judge(seen: &Seen<'_>, header: Header) -> Result<(), String> {
    let kind = seen.kind.unwrap_or_default();
    if !["monolithicSparse", "streamOptimized"].contains(&kind) {
        return Err(format!(
            "is of the kind {}; monolithicSparse and streamOptimized can be imported",
            shown(kind)
        ));
    }
    match seen.parent {
        Some(none) if none.eq_ignore_ascii_case("ffffffff") => {}
        Some(parent) => return Err(format!("has a parent, {}", shown(parent))),
        None => return Err("has a descriptor that does not say whether it has a parent".into()),
    }
    let [extent] = seen.extents[..] else {
        let count = seen.extents.len();
        return Err(format!("names {count} extents; one, the file itself, is valid"));
    };
    if is_the_file(extent, header.capacity) {
        return Ok(());
    }
    Err(format!(
        "names an extent that is not the file itself: {}",
        shown(extent)
    ))
}

/// Whether an extent is this very file: sparse, as large as the disk, and named without a way to elsewhere. The name
/// itself is that of the day when it was made; no program goes by it.
fn is_the_file(extent: &str, capacity: u64) -> bool {
    let Some((left, rest)) = extent.split_once('"') else {
        return false;
    };
    let words: Vec<&str> = left.split_whitespace().collect();
    let Some((name, after)) = rest.split_once('"') else {
        return false;
    };
    let plain = !name.is_empty() && name != ".." && !name.contains(['/', '\\', ':', '\u{fffd}']);
    let sized = |size: &str| size.parse() == Ok(capacity);
    plain
        && matches!(words[..], ["RW" | "RDONLY", size, "SPARSE"] if sized(size))
        && ["", "0"].contains(&after.trim())
}

/// A text of the file in an error: not more than a line of it, and nothing that a terminal obeys.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

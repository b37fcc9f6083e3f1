//! The inspection of a VHDX without parent: headers, regions, and the table of blocks. What is in it is in
//! `vhdx_metadata.rs`. Layout: Microsoft's MS-VHDX; what QEMU makes of it, whose choice among the two headers and the
//! two region tables is made here too: block/vhdx.c.

use std::io::{Read, Seek};

use super::{
    Rejected,
    bytes::{
        Bytes,
        little::{u16_at, u32_at, u64_at},
    },
    vhdx_metadata::{Disk, metadata},
};

const MIB: u64 = 1 << 20;
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGIONS: u64 = 192 << 10;

const BAT: [u8; 16] = guid(0x2dc2_7766, 0xf623, 0x4200, 0x9d64_115e_9bfd_4a08);
const METADATA: [u8; 16] = guid(0x8b7c_a206, 0x4790, 0x4b9a, 0xb8fe_575f_050f_886e);

/// A name as it is in a file.
pub(super) const fn guid(first: u32, second: u16, third: u16, last: u64) -> [u8; 16] {
    let ([a, b, c, d], [e, f], [g, h]) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    let [i, j, k, l, m, n, o, p] = last.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// A part of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Part {
    fn overlaps(self, other: Part) -> bool {
        self.start < other.start.saturating_add(other.length)
            && other.start < self.start.saturating_add(self.length)
    }
}

pub(super) fn inspect(file: &mut Bytes<'_, impl Read + Seek>) -> Result<u64, Rejected> {
    let log = current(file)?;
    let (bat, known) = regions(file)?;
    let parts = [log, bat, known];
    let overlap = |(i, part): (usize, &Part)| parts.iter().skip(i + 1).any(|other| part.overlaps(*other));
    if parts.iter().enumerate().any(overlap) {
        return Err(file.refuse("has parts that overlap"));
    }
    let disk = metadata(file, known)?;
    blocks(file, bat, &disk, &parts)?;
    Ok(disk.virtual_bytes)
}

/// The log's place, by the newer one of the sound headers. A log that is not empty has changes that are not in the disk.
fn current(file: &mut Bytes<'_, impl Read + Seek>) -> Result<Part, Rejected> {
    let mut found: Option<(u64, Vec<u8>)> = None;
    for at in HEADERS {
        let bytes = file.read("headers", at, 4096)?;
        if !is_sound(&bytes, b"head") {
            continue;
        }
        let sequence = u64_at(&bytes, 8);
        match &found {
            Some((other, first)) if *other == sequence && *first != bytes => {
                return Err(file.refuse("has two headers that are as new and differ"));
            }
            Some((other, _)) if *other >= sequence => {}
            _ => found = Some((sequence, bytes)),
        }
    }
    let Some((_, header)) = found else {
        return Err(file.refuse("has no sound header"));
    };
    let (version, log_version) = (u16_at(&header, 66), u16_at(&header, 64));
    if (version, log_version) != (1, 0) {
        return Err(file.refuse(format_args!(
            "has version {version} and a log of version {log_version}; 1 and 0 can be imported"
        )));
    }
    if header
        .get(48..64)
        .is_none_or(|log| log.iter().any(|byte| *byte != 0))
    {
        return Err(file.refuse("has changes in its log that are not in the disk (it was not closed)"));
    }
    let log = Part {
        start: u64_at(&header, 72),
        length: u64::from(u32_at(&header, 68)),
    };
    is_placed(file, log, "log")?;
    Ok(log)
}

/// The table of blocks and what is known of the disk. Others are nothing that we know.
fn regions(file: &mut Bytes<'_, impl Read + Seek>) -> Result<(Part, Part), Rejected> {
    let table = file.read("region table", REGIONS, 64 << 10)?;
    let count = u32_at(&table, 8);
    if !is_sound(&table, b"regi") || count > 2047 {
        return Err(file.refuse("has no sound region table"));
    }
    let [mut bat, mut known] = [None, None];
    let entries = table.get(16..).unwrap_or_default().as_chunks::<32>().0;
    for entry in entries.iter().take(count as usize) {
        let part = Part {
            start: u64_at(entry, 16),
            length: u64::from(u32_at(entry, 24)),
        };
        let place = match entry.first_chunk() {
            Some(&BAT) => &mut bat,
            Some(&METADATA) => &mut known,
            _ => return Err(file.refuse("has a region that is not known")),
        };
        is_placed(file, part, "region")?;
        if place.replace(part).is_some() {
            return Err(file.refuse("has a region twice"));
        }
    }
    bat.zip(known)
        .ok_or_else(|| file.refuse("lacks its block table or its metadata"))
}

/// A part is made of whole mebibytes, behind the headers' and inside of the file.
fn is_placed(file: &Bytes<'_, impl Read + Seek>, part: Part, what: &str) -> Result<(), Rejected> {
    let whole = part.start.is_multiple_of(MIB) && part.length.is_multiple_of(MIB) && part.length > 0;
    if whole && part.start >= MIB && file.has(part.start, part.length) {
        return Ok(());
    }
    Err(file.refuse(format_args!(
        "has a {what} of {} bytes at {}, which is outside of the file or over its headers",
        part.length, part.start
    )))
}

/// What the states of a block's entry in the table mean.
const ABSENT: std::ops::RangeInclusive<u64> = 0..=3;
const PRESENT: u64 = 6;

/// Every block that is there is inside of the file and over nothing else than blocks.
fn blocks(
    file: &mut Bytes<'_, impl Read + Seek>,
    bat: Part,
    disk: &Disk,
    parts: &[Part],
) -> Result<(), Rejected> {
    // Of so many entries one is a bitmap's, which only a disk with a parent has.
    let ratio = (disk.sector << 23) / disk.block;
    let data = disk.virtual_bytes.div_ceil(disk.block);
    let entries = data + (data - 1) / ratio;
    if entries * 8 > bat.length {
        return Err(file.refuse("has a block table that does not fit its size"));
    }
    file.table("block table", bat.start, entries, |file, number, entry| {
        let entry = u64::from_le_bytes(entry);
        let (state, start) = (entry & 7, (entry >> 20) << 20);
        if number % (ratio + 1) == ratio {
            return match state {
                0 => Ok(()),
                _ => Err(file.refuse("has bitmaps, as a disk with a parent has")),
            };
        }
        let block = Part {
            start,
            length: disk.block,
        };
        let free = || !parts.iter().any(|part| block.overlaps(*part));
        if ABSENT.contains(&state)
            || (state == PRESENT && start >= MIB && file.has(start, disk.block) && free())
        {
            return Ok(());
        }
        Err(file.refuse(format_args!(
            "has block {number} in state {state} at {start}, outside of the file or over its tables"
        )))
    })
}

/// Whether a structure begins with its mark and has the right checksum (CRC-32C with the field itself as zeros).
fn is_sound(bytes: &[u8], mark: &[u8; 4]) -> bool {
    let mut summed = bytes.to_vec();
    if let Some(field) = summed.get_mut(4..8) {
        field.fill(0);
    }
    bytes.starts_with(mark) && crc32c(&summed) == u32_at(bytes, 4)
}

/// CRC-32C (Castagnoli), bit by bit: there are some 140 KiB of it in a file.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

//! The inspection of a VHD: a fixed disk, which is raw with a footer, or a dynamic one. Layout: Microsoft's "Virtual
//! Hard Disk Image Format Specification"; what QEMU makes of it: block/vpc.c.

use std::io::{Read, Seek};

use super::{
    Rejected,
    bytes::{
        Bytes,
        big::{u32_at, u64_at},
    },
};

const FOOTER: u64 = 512;

/// The largest that the specification has: 2,040 GiB.
const MAX: u64 = 2040 << 30;

const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;

/// No offset, and no block.
const NONE: u64 = u64::MAX;

pub(super) fn inspect(file: &mut Bytes<'_, impl Read + Seek>) -> Result<u64, Rejected> {
    let at = file.length.saturating_sub(FOOTER);
    let footer = file.read("footer", at, 512)?;
    let first = file.read("header", 0, 512)?;
    let kind = u32_at(&footer, 60);
    if !footer.starts_with(b"conectix") {
        return Err(file.refuse("has no footer at its end"));
    }
    check_footer(file, &footer)?;
    let virtual_bytes = u64_at(&footer, 48);
    match kind {
        // A program that finds a footer at the beginning goes by that one.
        FIXED if first.starts_with(b"conectix") => Err(file.refuse("is fixed and begins with a footer")),
        FIXED if u64_at(&footer, 16) != NONE => {
            Err(file.refuse("is fixed and has the header of another kind"))
        }
        FIXED if virtual_bytes != at => Err(file.refuse(format_args!(
            "describes a fixed disk of {virtual_bytes} bytes and has {at}"
        ))),
        FIXED => Ok(virtual_bytes),
        DYNAMIC if first != footer => Err(file.refuse("has two footers that differ")),
        DYNAMIC => dynamic(file, u64_at(&footer, 16), virtual_bytes).map(|()| virtual_bytes),
        DIFFERENCING => Err(file.refuse("is a differencing disk, which has a parent")),
        _ => Err(file.refuse(format_args!(
            "is of the type {kind}; fixed (2) and dynamic (3) can be imported"
        ))),
    }
}

fn check_footer(file: &Bytes<'_, impl Read + Seek>, footer: &[u8]) -> Result<(), Rejected> {
    if sum(footer, 64) != u32_at(footer, 64) {
        return Err(file.refuse("has a footer whose checksum is wrong"));
    }
    let version = u32_at(footer, 12);
    if version >> 16 != 1 {
        return Err(file.refuse(format_args!("has version {version:#x}; 1 can be imported")));
    }
    if footer.get(84) != Some(&0) {
        return Err(file.refuse("is of a machine that was suspended"));
    }
    let size = u64_at(footer, 48);
    if size == 0 || size > MAX || !size.is_multiple_of(512) {
        return Err(file.refuse(format_args!(
            "describes a disk of {size} bytes; whole sectors, up to {MAX}, can be imported"
        )));
    }
    Ok(())
}

/// The complement of the sum of all bytes but those of the sum itself.
pub(super) fn sum(bytes: &[u8], at: usize) -> u32 {
    let others = bytes
        .iter()
        .enumerate()
        .filter(|(i, _)| !(at..at + 4).contains(i));
    !others.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

/// The header of a dynamic disk, and its table of blocks.
fn dynamic(file: &mut Bytes<'_, impl Read + Seek>, at: u64, virtual_bytes: u64) -> Result<(), Rejected> {
    if at < FOOTER {
        return Err(file.refuse("has a header that overlaps its footer"));
    }
    let header = file.read("header", at, 1024)?;
    if !header.starts_with(b"cxsparse") || sum(&header, 36) != u32_at(&header, 36) {
        return Err(file.refuse("has no header where its footer says, or a damaged one"));
    }
    let version = u32_at(&header, 24);
    if version >> 16 != 1 || u64_at(&header, 8) != NONE {
        return Err(file.refuse(format_args!(
            "has a header of version {version:#x}; 1 can be imported"
        )));
    }
    // The parent's number, time, name and eight locators.
    let [number, rest] = [40..60, 64..768].map(|range| header.get(range).unwrap_or_default());
    if number.iter().chain(rest).any(|byte| *byte != 0) {
        return Err(file.refuse("names a parent"));
    }
    let block = u64::from(u32_at(&header, 32));
    if !block.is_power_of_two() || !(1 << 16..=1 << 26).contains(&block) {
        return Err(file.refuse(format_args!(
            "has blocks of {block} bytes; powers of two from 64 KiB to 64 MiB can be imported"
        )));
    }
    let (table, entries) = (u64_at(&header, 16), u64::from(u32_at(&header, 28)));
    let needed = virtual_bytes.div_ceil(block);
    if entries < needed || entries > needed.saturating_mul(2).saturating_add(1024) {
        return Err(file.refuse("has a block table that does not fit its size"));
    }
    let apart = |end: u64, start: u64| end <= start;
    let end = table.saturating_add(entries * 4);
    if table < FOOTER || !(apart(end, at) || apart(at + 1024, table)) {
        return Err(file.refuse("has a block table that overlaps its header"));
    }
    // A bitmap of whole sectors is before the data of each block.
    let taken = (block / 512).div_ceil(8).next_multiple_of(512) + block;
    file.table("block table", table, entries, |file, number, entry| {
        let sector = u32::from_be_bytes(entry);
        let start = u64::from(sector) * 512;
        let beside = (apart(start + taken, table) || apart(end, start))
            && (apart(start + taken, at) || apart(at + 1024, start));
        if sector == u32::MAX || (file.has(start, taken) && start >= FOOTER && beside) {
            return Ok(());
        }
        Err(file.refuse(format_args!(
            "has block {number} at sector {sector}, outside of the file or over its tables"
        )))
    })
}

//! What a VHDX says of its disk: size, blocks and sectors, and that it has no parent.

use std::{
    collections::HashMap,
    io::{Read, Seek},
};

use super::{
    MAX_VIRTUAL, Rejected,
    bytes::{
        Bytes,
        little::{u16_at, u32_at, u64_at},
    },
    vhdx::{Part, guid},
};

const PARAMETERS: [u8; 16] = guid(0xcaa1_6737, 0xfa36, 0x4d43, 0xb3b6_33f0_aa44_e76b);
const SIZE: [u8; 16] = guid(0x2fa5_4224, 0xcd1b, 0x4876, 0xb211_5dbe_d83b_f4b8);
const IDENTITY: [u8; 16] = guid(0xbeca_12ab, 0xb2e6, 0x4523, 0x93ef_c309_e000_c746);
const LOGICAL: [u8; 16] = guid(0x8141_bf1d, 0xa96f, 0x4709, 0xba47_f233_a8fa_ab5f);
const PHYSICAL: [u8; 16] = guid(0xcda3_48c7, 0x445d, 0x4471, 0x9cc9_e988_5251_c556);
const PARENT: [u8; 16] = guid(0xa8d3_5f2d, 0xb30b, 0x454d, 0xabf7_d3d8_4834_ab0c);

/// How long each item is.
const ITEMS: [([u8; 16], u32); 5] = [
    (PARAMETERS, 8),
    (SIZE, 8),
    (IDENTITY, 16),
    (LOGICAL, 4),
    (PHYSICAL, 4),
];

/// Where items begin: behind their table.
const TABLE: u32 = 64 << 10;

/// A disk, in bytes.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) virtual_bytes: u64,
    pub(super) block: u64,
    pub(super) sector: u64,
}

pub(super) fn metadata(file: &mut Bytes<'_, impl Read + Seek>, region: Part) -> Result<Disk, Rejected> {
    let items = items(file, region)?;
    let mut item = |name: [u8; 16]| {
        let (offset, length) = items
            .get(&name)
            .copied()
            .ok_or_else(|| file.refuse("lacks metadata"))?;
        file.read("metadata", region.start + u64::from(offset), length as usize)
    };
    let (parameters, size, logical) = (item(PARAMETERS)?, item(SIZE)?, item(LOGICAL)?);
    let physical = item(PHYSICAL)?;
    let flags = u32_at(&parameters, 4);
    if flags & 2 != 0 {
        return Err(file.refuse("has a parent"));
    }
    if flags & !1 != 0 {
        return Err(file.refuse(format_args!("has flags {flags:#x} that are not known")));
    }
    let block = u64::from(u32_at(&parameters, 0));
    if !block.is_power_of_two() || !(1 << 20..=1 << 28).contains(&block) {
        return Err(file.refuse(format_args!(
            "has blocks of {block} bytes; powers of two from 1 MiB to 256 MiB are valid"
        )));
    }
    for sector in [&logical, &physical].map(|bytes| u32_at(bytes, 0)) {
        if ![512, 4096].contains(&sector) {
            return Err(file.refuse(format_args!(
                "has sectors of {sector} bytes; 512 and 4096 are valid"
            )));
        }
    }
    let (virtual_bytes, sector) = (u64_at(&size, 0), u64::from(u32_at(&logical, 0)));
    if virtual_bytes == 0 || virtual_bytes > MAX_VIRTUAL || !virtual_bytes.is_multiple_of(sector) {
        return Err(file.refuse(format_args!(
            "describes a disk of {virtual_bytes} bytes; whole sectors, up to {MAX_VIRTUAL}, can be imported"
        )));
    }
    Ok(Disk {
        virtual_bytes,
        block,
        sector,
    })
}

/// Where each item is in the region, and how long.
fn items(
    file: &mut Bytes<'_, impl Read + Seek>,
    region: Part,
) -> Result<HashMap<[u8; 16], (u32, u32)>, Rejected> {
    let table = file.read("metadata", region.start, TABLE as usize)?;
    let count = u16_at(&table, 10);
    if !table.starts_with(b"metadata") || count > 2047 {
        return Err(file.refuse("has no sound metadata"));
    }
    let mut items = HashMap::new();
    for entry in table.as_chunks::<32>().0.iter().skip(1).take(usize::from(count)) {
        let name = entry.first_chunk().copied().unwrap_or_default();
        let (offset, length) = (u32_at(entry, 16), u32_at(entry, 20));
        if name == PARENT {
            return Err(file.refuse("names a parent"));
        }
        let Some((_, right)) = ITEMS.iter().find(|(known, _)| *known == name) else {
            // What a user has noted is nobody's business, unless it has to be understood.
            const USER: u32 = 1;
            const REQUIRED: u32 = 1 << 2;
            if u32_at(entry, 24) & (USER | REQUIRED) == USER {
                continue;
            }
            return Err(file.refuse("has metadata that are not known"));
        };
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| u64::from(end) <= region.length);
        if length != *right || offset < TABLE || !inside {
            return Err(file.refuse("has metadata outside of their place"));
        }
        if items.insert(name, (offset, length)).is_some() {
            return Err(file.refuse("has metadata twice"));
        }
    }
    Ok(items)
}

//! VHDX: hand-made files.

use cumulet_domain::image::FileFormat;

use super::{look, put, refused};
use crate::image_files::inspect::vhdx::crc32c;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const REGIONS: usize = 192 * KIB;
const BAT: usize = 2 * MIB;
const METADATA: usize = 3 * MIB;
const ITEMS: usize = METADATA + 64 * KIB;

/// Where something is that is looked at.
pub(super) const PLACES: &[usize] = &[0, 64 * KIB, 128 * KIB, REGIONS, BAT, METADATA, ITEMS];

const REGION_BAT: [u8; 16] = *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
const REGION_METADATA: [u8; 16] = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
const PARENT: [u8; 16] = *b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";

/// What the metadata say: name, place, length, flags.
const TABLE: [([u8; 16], u32, u32, u32); 5] = [
    (
        *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b",
        0,
        8,
        4,
    ),
    (
        *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8",
        8,
        8,
        6,
    ),
    (
        *b"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46",
        16,
        16,
        6,
    ),
    (
        *b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f",
        32,
        4,
        6,
    ),
    (
        *b"\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56",
        36,
        4,
        6,
    ),
];

/// One of a single block of 1 MiB, which is there.
pub(super) fn good() -> Vec<u8> {
    let mut bytes = vec![0; 5 * MIB];
    put(&mut bytes, 0, b"vhdxfile");
    for (at, sequence) in [(64 * KIB, 1_u64), (128 * KIB, 2)] {
        put(&mut bytes, at, b"head");
        put(&mut bytes, at + 8, &sequence.to_le_bytes());
        put(&mut bytes, at + 66, &[1, 0]);
        place(&mut bytes, at + 72, at + 68, MIB);
    }
    put(&mut bytes, REGIONS, b"regi");
    put(&mut bytes, REGIONS + 8, &[2]);
    for (at, name, start) in [(16, REGION_BAT, BAT), (48, REGION_METADATA, METADATA)] {
        put(&mut bytes, REGIONS + at, &name);
        place(&mut bytes, REGIONS + at + 16, REGIONS + at + 24, start);
        put(&mut bytes, REGIONS + at + 28, &[1]);
    }
    put(&mut bytes, BAT, &((4 * MIB as u64) | 6).to_le_bytes());
    put(&mut bytes, METADATA, b"metadata\0\0\x05\0");
    for (i, (name, offset, length, flags)) in TABLE.into_iter().enumerate() {
        let at = METADATA + 32 * (i + 1);
        put(&mut bytes, at, &name);
        for (place, value) in [(16, 65536 + offset), (20, length), (24, flags)] {
            put(&mut bytes, at + place, &value.to_le_bytes());
        }
    }
    for (at, value) in [(0, MIB), (8, MIB), (32, 512), (36, 4096)] {
        put(
            &mut bytes,
            ITEMS + at,
            &u32::try_from(value).unwrap().to_le_bytes(),
        );
    }
    sum(&mut bytes);
    bytes
}

/// A place of a mebibyte: the one number is eight bytes long, the other four.
fn place(bytes: &mut [u8], at: usize, length: usize, start: usize) {
    put(bytes, at, &(start as u64).to_le_bytes());
    put(bytes, length, &(1_u32 << 20).to_le_bytes());
}

/// Right checksums.
pub(super) fn sum(bytes: &mut [u8]) {
    for (at, length) in [(64 * KIB, 4 * KIB), (128 * KIB, 4 * KIB), (REGIONS, 64 * KIB)] {
        put(bytes, at + 4, &[0; 4]);
        let sum = crc32c(&bytes[at..at + length]);
        put(bytes, at + 4, &sum.to_le_bytes());
    }
}

fn with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = good();
    put(&mut bytes, at, value);
    sum(&mut bytes);
    bytes
}

fn damaged(places: &[usize]) -> Vec<u8> {
    let mut bytes = good();
    for at in places {
        bytes[*at] ^= 1;
    }
    bytes
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn a_vhdx_by_itself_passes() {
    let newest = 128 * KIB;
    let files = [
        good(),
        // One header that is damaged, or is the older one and has a log, does not matter.
        damaged(&[newest + 100]),
        damaged(&[64 * KIB + 100]),
        with(64 * KIB + 48, &[1]),
        with(BAT, &[0]),
        with(BAT, &[2]),
    ];
    for file in files {
        assert_eq!(
            look(file, FileFormat::Vhdx).map(|found| found.virtual_bytes),
            Ok(1 << 20)
        );
    }
}

#[test]
fn a_vhdx_with_a_parent_or_a_log_is_refused() {
    let item = |number: usize| METADATA + 32 * number;
    let mut locator = with(METADATA + 10, &[6]);
    put(&mut locator, item(6), &PARENT);
    refused(
        FileFormat::Vhdx,
        vec![
            ("has a parent", with(ITEMS + 4, &[2])),
            ("names a parent", locator),
            ("names a parent", with(item(3), &PARENT)),
            ("bitmaps", {
                // The ratio of 4,096 blocks of 1 MiB: the entry behind them is a bitmap's.
                let mut large = with(ITEMS + 8, &(5000 * MIB as u64).to_le_bytes());
                put(&mut large, BAT + 8 * 4096, &((4 * MIB as u64) | 6).to_le_bytes());
                large
            }),
            ("in state 7", with(BAT, &[7])),
            ("in its log", with(128 * KIB + 48, &[1])),
            ("in its log", {
                let mut file = with(64 * KIB + 48, &[1]);
                file[128 * KIB + 100] ^= 1;
                file
            }),
        ],
    );
}

#[test]
fn a_vhdx_whose_structures_lie_is_refused() {
    let (newest, first, second) = (128 * KIB, REGIONS + 16, REGIONS + 48);
    let item = |number: usize| METADATA + 32 * number;
    let long = |value: usize| (value as u64).to_le_bytes();
    let mut same = with(64 * KIB + 8, &[2]);
    same[64 * KIB + 200] = 1;
    sum(&mut same);
    let far = 1_usize << 50;
    refused(
        FileFormat::Vhdx,
        vec![
            ("no sound header", damaged(&[64 * KIB + 100, newest + 100])),
            ("as new and differ", same),
            ("version 2", with(newest + 66, &[2])),
            ("log of", with(newest + 72, &long(MIB / 2))),
            ("log of", with(newest + 72, &long(far))),
            ("log of", with(newest + 68, &[0; 4])),
            ("overlap", with(newest + 72, &long(BAT))),
            ("sound region table", damaged(&[REGIONS + 100])),
            ("sound region table", with(REGIONS + 8, &[255; 4])),
            ("lacks its block table", with(REGIONS + 8, &[1])),
            ("region that is not known", with(first, &[9])),
            ("region twice", with(second, &REGION_BAT)),
            ("region of", with(first + 16, &long(0))),
            ("region of", with(first + 16, &[255; 8])),
            ("region of", with(first + 24, &[255; 4])),
            ("overlap", with(first + 16, &long(METADATA))),
            ("metadata", with(METADATA + 10, &[255, 255])),
            ("sound metadata", with(METADATA, b"\0")),
            ("lacks metadata", with(METADATA + 10, &[4])),
            ("metadata twice", with(item(2), &TABLE[0].0)),
            ("outside of their place", with(item(1) + 16, &[0; 4])),
            ("outside of their place", with(item(1) + 16, &[255; 4])),
            ("outside of their place", with(item(1) + 20, &[255; 4])),
            ("not known", with(item(1), &[9])),
            ("flags", with(ITEMS + 4, &[8])),
            ("blocks of", with(ITEMS, &[0; 4])),
            ("blocks of", with(ITEMS, &[1])),
            ("a disk of 0", with(ITEMS + 8, &[0; 8])),
            ("a disk of", with(ITEMS + 8, &[255; 8])),
            ("a disk of", with(ITEMS + 8, &long(MIB + 1))),
            ("sectors of", with(ITEMS + 32, &[0; 4])),
            ("sectors of", with(ITEMS + 36, &[1])),
            ("does not fit its size", with(ITEMS + 8, &long(1 << 40))),
            ("block 0", with(BAT, &long(far | 6))),
            ("block 0", with(BAT, &long(METADATA | 6))),
            ("block 0", with(BAT, &long(6))),
            ("block 0", with(BAT, &[255; 8])),
        ],
    );
}

//! VHD: hand-made files.

use cumulet_domain::image::FileFormat;

use super::{look, put, refused};
use crate::image_files::inspect::vhd;

const BLOCK: usize = 64 << 10;

/// A dynamic one of a single block, which is there.
pub(super) fn dynamic() -> Vec<u8> {
    let mut bytes = vec![0; 2048 + 512 + BLOCK + 512];
    footer(&mut bytes, 0, 3, 512, BLOCK as u64);
    put(&mut bytes, 512, b"cxsparse");
    put(&mut bytes, 520, &[255; 8]);
    put(&mut bytes, 528, &1536_u64.to_be_bytes());
    for (at, value) in [(24, 0x1_0000_u32), (28, 1), (32, 64 << 10)] {
        put(&mut bytes, 512 + at, &value.to_be_bytes());
    }
    put(&mut bytes, 1536, &4_u32.to_be_bytes());
    sum(&mut bytes);
    bytes
}

fn fixed() -> Vec<u8> {
    let mut bytes = vec![7; 4096 + 512];
    bytes[4096..].fill(0);
    footer(&mut bytes, 4096, 2, u64::MAX, 4096);
    seal(&mut bytes[4096..], 64);
    bytes
}

fn footer(bytes: &mut [u8], at: usize, kind: u32, header: u64, size: u64) {
    put(bytes, at, b"conectix\0\0\0\x02\0\x01\0\0");
    put(bytes, at + 16, &header.to_be_bytes());
    put(bytes, at + 40, &size.to_be_bytes());
    put(bytes, at + 48, &size.to_be_bytes());
    put(bytes, at + 60, &kind.to_be_bytes());
}

fn seal(bytes: &mut [u8], at: usize) {
    let sum = vhd::sum(bytes, at);
    put(bytes, at, &sum.to_be_bytes());
}

/// Right checksums, and the second footer as the first.
pub(super) fn sum(bytes: &mut [u8]) {
    seal(&mut bytes[..512], 64);
    seal(&mut bytes[512..1536], 36);
    let end = bytes.len() - 512;
    bytes.copy_within(..512, end);
}

fn with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = dynamic();
    put(&mut bytes, at, value);
    sum(&mut bytes);
    bytes
}

fn fixed_with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = fixed();
    put(&mut bytes, at, value);
    seal(&mut bytes[4096..], 64);
    bytes
}

#[test]
fn a_fixed_and_a_dynamic_vhd_pass() {
    for (file, size) in [
        (fixed(), 4096),
        (dynamic(), BLOCK as u64),
        (with(1536, &[255; 4]), BLOCK as u64),
    ] {
        assert_eq!(
            look(file, FileFormat::Vhd).map(|found| found.virtual_bytes),
            Ok(size)
        );
    }
}

#[test]
fn a_vhd_with_a_parent_or_a_header_that_lies_is_refused() {
    let mut second = dynamic();
    let end = second.len() - 500;
    second[end] ^= 1;
    let mut damaged = dynamic();
    damaged[512 + 900] ^= 1;
    let mut wrong = fixed();
    wrong[4096 + 30] ^= 1;
    let mut cut = dynamic();
    cut.truncate(3000);
    let long = |value: u64| value.to_be_bytes();
    refused(
        FileFormat::Vhd,
        vec![
            ("differencing", with(63, &[4])),
            ("differencing", fixed_with(4096 + 63, &[4])),
            ("of the type 5", with(63, &[5])),
            ("names a parent", with(512 + 40, &[1])),
            ("names a parent", with(512 + 64, b"\0/\0e\0t\0c")),
            ("names a parent", with(512 + 576, b"W2ku")),
            ("checksum", second),
            ("checksum", wrong),
            ("damaged", damaged),
            ("no footer at its end", cut),
            ("version", with(12, &[0, 2])),
            ("suspended", with(84, &[1])),
            ("a disk of 0", with(48, &long(0))),
            ("a disk of", with(48, &long(1 << 60))),
            ("a disk of", with(48, &long(1000))),
            ("begins with a footer", {
                let mut both = fixed_with(0, b"conectix");
                both[511] = 0;
                both
            }),
            ("of another kind", fixed_with(4096 + 16, &long(512))),
            ("a fixed disk of", fixed_with(4096 + 48, &long(8192))),
            ("overlaps its footer", with(16, &long(0))),
            ("overlaps its footer", with(16, &long(511))),
            ("inside its header", with(16, &long(u64::MAX - 4))),
            ("no header", with(16, &long(1024))),
            ("header of version", with(512 + 24, &[0, 2])),
            ("blocks of", with(512 + 32, &[0; 4])),
            ("blocks of", with(512 + 32, &3_000_000_u32.to_be_bytes())),
            ("does not fit its size", with(512 + 28, &0_u32.to_be_bytes())),
            ("does not fit its size", with(512 + 28, &[255; 4])),
            ("overlaps its header", with(512 + 16, &long(0))),
            ("overlaps its header", with(512 + 16, &long(1000))),
            ("inside its block table", with(512 + 16, &long(1 << 50))),
            ("inside its block table", with(512 + 16, &long(u64::MAX))),
            ("block 0", with(1536, &0_u32.to_be_bytes())),
            ("block 0", with(1536, &3_u32.to_be_bytes())),
            ("block 0", with(1536, &1000_u32.to_be_bytes())),
        ],
    );
}

#[test]
fn a_footer_that_is_not_the_same_as_the_first_is_refused() {
    let mut file = dynamic();
    let end = file.len() - 512;
    file[end + 30] ^= 1;
    seal(&mut file[end..], 64);
    refused(FileFormat::Vhd, vec![("two footers that differ", file)]);
}

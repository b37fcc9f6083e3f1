//! qcow2: hand-made files.

use cumulet_domain::image::FileFormat;

use super::look;
use crate::image_files::inspect::Inspected;

/// A version 3 header of a 1 MiB disk with 64 KiB clusters, and room for its tables.
pub(super) fn good() -> Vec<u8> {
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

/// The same of version 2, whose extensions begin where version 3 has its features.
fn older(extension: &[u8]) -> Vec<u8> {
    let mut image = with(4, &2_u32.to_be_bytes());
    image[72..104].fill(0);
    image[72..72 + extension.len()].copy_from_slice(extension);
    image
}

fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = good();
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
    image
}

#[test]
fn a_self_contained_qcow2_passes() {
    // An extension of a kind that names nothing.
    let of_nothing = [0x68, 0x03, 0xf8, 0x57, 0, 0, 0, 8];
    for image in [good(), with(104, &of_nothing), older(&[]), older(&of_nothing)] {
        assert_eq!(
            look(image, FileFormat::Qcow2),
            Ok(Inspected {
                format: FileFormat::Qcow2,
                virtual_bytes: 1 << 20
            })
        );
    }
}

#[test]
fn dangerous_qcow2_files_are_refused_by_name() {
    let cases: [(&str, Vec<u8>); 18] = [
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
        ("names a data file", older(&[0x44, 0x41, 0x54, 0x41, 0, 0, 0, 8])),
        (
            "names a backing format",
            older(&[0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 8]),
        ),
        ("encrypted", older(&[0x05, 0x37, 0xbe, 0x77, 0, 0, 0, 16])),
        (
            "behind its first 64 KiB",
            older(&[0x68, 0x03, 0xf8, 0x57, 0, 0, 0xff, 0xff]),
        ),
        ("behind its first 64 KiB", with(100, &0x2_0000_u32.to_be_bytes())),
    ];
    for (named, image) in cases {
        let error = look(image, FileFormat::Qcow2).unwrap_err();
        assert!(error.contains(named), "{error} should speak of {named}");
    }
}

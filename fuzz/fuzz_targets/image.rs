//! An image file to be imported, declared to be raw or qcow2: no panic, and what is accepted as qcow2 names
//! no other file and describes a disk of a permitted size.

#![no_main]

use std::io::Cursor;

use cumulet_backend::images::inspect;
use cumulet_domain::image::DiskFormat;
use libfuzzer_sys::fuzz_target;

/// Where a qcow2 header says what it depends on.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fuzz_target!(|data: &[u8]| {
    let [magic, bytes @ ..] = data else { return };
    // Half of the inputs begin as a qcow2 of version 3 does, so that the rest is reached.
    let mut file = bytes.to_vec();
    if magic % 2 == 1 && file.len() >= 8 {
        file[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    }
    if let Ok(found) = inspect(&mut Cursor::new(&file), DiskFormat::Raw) {
        assert!(!file.starts_with(b"QFI\xfb") && found.format == DiskFormat::Raw);
    }
    if let Ok(found) = inspect(&mut Cursor::new(&file), DiskFormat::Qcow2) {
        assert!(file.starts_with(b"QFI\xfb") && found.format == DiskFormat::Qcow2);
        assert_eq!(
            (number(&file, 8, 8), number(&file, 16, 4)),
            (0, 0),
            "a backing file"
        );
        assert_eq!(number(&file, 32, 4), 0, "encrypted");
        assert_eq!(number(&file, 60, 4), 0, "snapshots");
        if number(&file, 4, 4) == 3 {
            assert_eq!(number(&file, 72, 8) & 0b100, 0, "an external data file");
        }
        assert!((1..=16 << 40).contains(&found.virtual_bytes));
    }
});

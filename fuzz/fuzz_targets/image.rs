//! An image file to be imported, declared to be each of the formats: no panic, what is accepted has a permitted size
//! and no other format's mark, and a qcow2 names no other file.

#![no_main]

use std::io::Cursor;

use cumulet_backend::images::inspect;
use cumulet_domain::image::FileFormat;
use libfuzzer_sys::fuzz_target;

/// Where a qcow2 header says what it depends on.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// How files of each format begin.
const MARKS: [(FileFormat, &[u8]); 4] = [
    (FileFormat::Qcow2, b"QFI\xfb\0\0\0\x03"),
    (FileFormat::Vmdk, b"KDMV\x01\0\0\0"),
    (FileFormat::Vhd, b"conectix"),
    (FileFormat::Vhdx, b"vhdxfile"),
];

fuzz_target!(|data: &[u8]| {
    let [choice, bytes @ ..] = data else { return };
    // Most inputs begin as a file of some format does, so that the rest is reached.
    let mut file = bytes.to_vec();
    if let Some((_, mark)) = MARKS.get(usize::from(choice % 5))
        && file.len() >= 8
    {
        file[..8].copy_from_slice(mark);
    }
    for declared in FileFormat::ALL {
        let Ok(found) = inspect(&mut Cursor::new(&file), declared) else { continue };
        assert!(found.format == declared && (1..=16 << 40).contains(&found.virtual_bytes));
        for (format, mark) in MARKS {
            let marked = file.starts_with(&mark[..4]);
            // A fixed VHD has its mark at its end; that of a VHDX is longer.
            let told = !matches!(format, FileFormat::Vhd | FileFormat::Vhdx);
            assert!(!told || marked == (format == declared), "{declared}, {format}");
        }
        if declared == FileFormat::Qcow2 {
            assert_eq!((number(&file, 8, 8), number(&file, 16, 4)), (0, 0), "a backing file");
            assert_eq!(number(&file, 32, 4), 0, "encrypted");
            assert_eq!(number(&file, 60, 4), 0, "snapshots");
            if number(&file, 4, 4) == 3 {
                assert_eq!(number(&file, 72, 8) & 0b100, 0, "an external data file");
            }
        }
    }
});

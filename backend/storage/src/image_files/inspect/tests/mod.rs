//! Inspection of files that were made by hand, of files that `qemu-img` makes, and of damaged ones.

mod made;
mod qcow2;
mod vhd;
mod vhdx;
mod vmdk;

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use cumulet_domain::image::FileFormat;

use super::{
    Inspected,
    bytes::BUDGET,
    inspect,
    magic::{MARKS, QCOW2, VHD, VHDX, VMDK},
};

/// A file that counts what is read of it.
struct Counted {
    file: Cursor<Vec<u8>>,
    read: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// What an inspection says, which has read no more than it may.
fn look(bytes: Vec<u8>, declared: FileFormat) -> Result<Inspected, String> {
    let mut file = Counted {
        file: Cursor::new(bytes),
        read: 0,
    };
    let found = inspect(&mut file, declared).map_err(|rejected| rejected.to_string());
    assert!(file.read <= BUDGET, "{} bytes were read", file.read);
    found
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Each case is refused with its words.
fn refused(declared: FileFormat, cases: Vec<(&str, Vec<u8>)>) {
    for (named, image) in cases {
        let told = look(image, declared).expect_err(named);
        assert!(told.contains(named), "{told} should speak of {named}");
    }
}

/// A good file of each format that has a mark.
fn good(format: FileFormat) -> Vec<u8> {
    match format {
        FileFormat::Raw => vec![0x33; 4096],
        FileFormat::Qcow2 => qcow2::good(),
        FileFormat::Vmdk => vmdk::good(),
        FileFormat::Vhd => vhd::dynamic(),
        FileFormat::Vhdx => vhdx::good(),
    }
}

#[test]
fn a_raw_disk_passes_and_counts_whole_sectors() {
    assert_eq!(
        look(vec![0x33; 1000], FileFormat::Raw),
        Ok(Inspected {
            format: FileFormat::Raw,
            virtual_bytes: 1024
        })
    );
}

#[test]
fn what_is_declared_and_what_is_found_must_agree() {
    for is in FileFormat::ALL {
        for declared in FileFormat::ALL {
            let found = look(good(is), declared);
            if is == declared {
                assert_eq!(found.map(|found| found.format), Ok(is));
                continue;
            }
            let told = found.expect_err(declared.name());
            let right = format!("--format {is}");
            assert!(
                told.contains(&format!("not {declared}")) && told.ends_with(&right),
                "{told}"
            );
        }
        assert!(look(Vec::new(), is).unwrap_err().contains("empty"));
    }
}

#[test]
fn other_formats_are_refused_whatever_is_declared() {
    for (offset, bytes, name) in MARKS {
        let mut image = vec![0; 4096];
        put(&mut image, usize::try_from(*offset).unwrap(), bytes);
        for declared in FileFormat::ALL {
            let own = match declared {
                FileFormat::Raw => "",
                FileFormat::Qcow2 => QCOW2,
                FileFormat::Vmdk => VMDK,
                FileFormat::Vhd => VHD,
                FileFormat::Vhdx => VHDX,
            };
            let told = look(image.clone(), declared).expect_err(name);
            assert!(
                own == *name || told.contains(name),
                "{told} should speak of {name}"
            );
        }
    }
    let mut vhd = vec![0; 4096];
    put(&mut vhd, 3584, b"conectix");
    assert!(look(vhd, FileFormat::Raw).unwrap_err().contains("VHD"));
}

#[test]
fn a_file_that_is_two_things_passes_as_neither() {
    for format in FileFormat::ALL {
        let mut image = good(format);
        image.extend([0; 512]);
        let at = image.len() - 512;
        put(&mut image, at, b"conectix");
        let words = match format {
            FileFormat::Raw => "a VHD",
            FileFormat::Vhd => "checksum",
            _ => "and a VHD at a time",
        };
        refused(format, vec![(words, image)]);
        if format != FileFormat::Raw {
            let mut image = good(format);
            put(&mut image, 257, b"ustar");
            refused(format, vec![("and a tar archive at a time", image)]);
        }
    }
}

#[test]
fn a_file_that_was_cut_anywhere_is_refused_or_as_it_was() {
    for format in [
        FileFormat::Qcow2,
        FileFormat::Vmdk,
        FileFormat::Vhd,
        FileFormat::Vhdx,
    ] {
        let whole = good(format);
        let size = look(whole.clone(), format).unwrap();
        let step = (whole.len() / 300).max(7);
        for length in (1..whole.len()).step_by(step) {
            let found = look(whole[..length].to_vec(), format);
            assert!(
                found.is_err() || found == Ok(size),
                "{format}, {length} bytes: {found:?}"
            );
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]

    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(0_u8.., 0..1200), mark in 0..6_usize) {
        let mark = MARKS[mark].1;
        if bytes.len() > 32 {
            put(&mut bytes, 0, mark);
        }
        for declared in FileFormat::ALL {
            drop(look(bytes.clone(), declared));
        }
    }

    #[test]
    fn no_change_of_a_good_file_makes_it_panic(
        format in 1..FileFormat::ALL.len(),
        changes in proptest::collection::vec((0..4096_usize, proptest::array::uniform8(0_u8..), 0..9_usize), 1..6),
    ) {
        let format = FileFormat::ALL[format];
        let mut bytes = good(format);
        let places = match format {
            FileFormat::Vhdx => vhdx::PLACES,
            _ => &[0],
        };
        for (at, value, count) in changes {
            let at = places[at % places.len()] + at % 1600;
            put(&mut bytes, at, &value[..count.min(8)]);
        }
        match format {
            FileFormat::Vhd => vhd::sum(&mut bytes),
            FileFormat::Vhdx => vhdx::sum(&mut bytes),
            _ => {}
        }
        if let Ok(found) = look(bytes, format) {
            proptest::prop_assert!((1..=super::MAX_VIRTUAL).contains(&found.virtual_bytes));
        }
    }
}

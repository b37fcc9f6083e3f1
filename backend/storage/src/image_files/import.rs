//! The import of an image file into the store: inspected, copied, hashed, flushed, and only then named by its content.
//! What was inspected is what is kept or converted: the copy is inspected again. Raw disks and qcow2 are kept as they
//! are; all others are converted to qcow2, whose bytes their name is made of.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use cumulet_domain::image::FileFormat;

use super::{
    convert::Converter,
    copy::{copy_data, copy_hashed, hash},
    inspect::{Inspected, Rejected, inspect},
    partial::{Partial, sweep},
};

/// A file in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its name there: the SHA-256 of its bytes in hexadecimal digits.
    pub sha256: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What it is there.
    pub inspected: Inspected,
}

/// How far an import is. Each stage that has no amount is short, or as long as the disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The file is looked at, before anything is written.
    Inspecting,
    /// So many of its bytes are copied, of so many.
    Copying {
        /// Bytes that are done.
        done: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// So much of the disk is converted, of so much.
    Converting {
        /// Bytes that are done.
        done: u64,
        /// Bytes of the disk.
        total: u64,
    },
    /// The copy is brought to the disk.
    Flushing,
    /// So many of the bytes are hashed that a conversion has made, of so many.
    Hashing {
        /// Bytes that are done.
        done: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// The copy is looked at in its turn.
    Verifying,
}

/// Imports `source` into the folder `store`. `progress` hears of each stage, and now and then how far it is.
///
/// # Errors
/// [`Rejected`] where the file is not what it is said to be, is not safe, or can't be copied or converted. Nothing is
/// left of it then.
pub fn import(
    source: &Path,
    declared: FileFormat,
    store: &Path,
    converter: Converter,
    mut progress: impl FnMut(Stage),
) -> Result<Imported, Rejected> {
    progress(Stage::Inspecting);
    let mut from = File::open(source)?;
    inspect(&mut from, declared)?;
    if !declared.is_kept_as_it_is() {
        converter.check()?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(store)?;
    sweep(store)?;
    let total = from.seek(SeekFrom::End(0))?;
    from.seek(SeekFrom::Start(0))?;
    let copy = Partial::new(store)?;
    if declared.is_kept_as_it_is() {
        let sha256 = copy_hashed(&mut from, &copy.file, total, &mut progress)?;
        progress(Stage::Verifying);
        let inspected = inspect(&mut &copy.file, declared)?;
        return keep(copy, store, sha256, inspected);
    }
    copy_data(&from, &copy.file, total, &mut progress)?;
    convert(&copy, declared, store, converter, &mut progress)
}

/// The copy of a file becomes a qcow2 of the same disk.
fn convert(
    copy: &Partial,
    declared: FileFormat,
    store: &Path,
    converter: Converter,
    progress: &mut impl FnMut(Stage),
) -> Result<Imported, Rejected> {
    let disk = inspect(&mut &copy.file, declared)?;
    let result = Partial::new(store)?;
    converter.convert(copy, &result, disk, progress)?;
    progress(Stage::Flushing);
    result.file.sync_all()?;
    let sha256 = hash(&result.file, progress)?;
    progress(Stage::Verifying);
    let inspected = inspect(&mut &result.file, FileFormat::Qcow2)?;
    if inspected.virtual_bytes != disk.virtual_bytes {
        return Err(Rejected::Conversion(format!(
            "the disk has {} bytes, and qemu-img has made {} of them",
            disk.virtual_bytes, inspected.virtual_bytes
        )));
    }
    keep(result, store, sha256, inspected)
}

/// A file that is complete gets its name.
fn keep(partial: Partial, store: &Path, sha256: String, inspected: Inspected) -> Result<Imported, Rejected> {
    let size_bytes = partial.file.metadata()?.len();
    partial.keep(store, &sha256)?;
    Ok(Imported {
        sha256,
        size_bytes,
        inspected,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use sha2::{Digest as _, Sha256};

    use super::*;

    const CONVERTER: Converter = Converter::new(1_900_065_536);

    #[test]
    fn a_file_is_named_by_its_content_and_nothing_is_left_of_a_refused_one() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (dir.path().join("disk"), dir.path().join("store"));
        let mut disk = vec![0_u8; 3 << 20];
        disk[1 << 20] = 7;
        fs::write(&source, &disk).unwrap();
        let mut stages = Vec::new();
        let imported = import(&source, FileFormat::Raw, &store, CONVERTER, |stage| {
            stages.push(stage)
        })
        .unwrap();
        assert_eq!(imported.sha256, hex::encode(Sha256::digest(&disk)));
        assert_eq!(imported.size_bytes, 3 << 20);
        let copying = |mebibytes: u64| Stage::Copying {
            done: mebibytes << 20,
            total: 3 << 20,
        };
        let [one, two, three] = [1, 2, 3].map(copying);
        let expected = [
            Stage::Inspecting,
            one,
            two,
            three,
            Stage::Flushing,
            Stage::Verifying,
        ];
        assert_eq!(stages, expected);
        assert_eq!(fs::read(store.join(&imported.sha256)).unwrap(), disk);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&store), mode(&store.join(&imported.sha256))),
            (0o700, 0o600)
        );
        assert!(import(&source, FileFormat::Qcow2, &store, CONVERTER, |_| ()).is_err());
        assert_eq!(fs::read_dir(&store).unwrap().count(), 1);
    }
}

//! Takes a file into the store: inspected, copied, hashed while copying, flushed, and only then named by
//! its content. What was inspected is what was copied: the copy is inspected again.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use cumulet_domain::image::DiskFormat;
use sha2::{Digest, Sha256};

use super::inspect::{Inspected, Rejected, inspect};

/// A file in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its name there: the SHA-256 of its bytes in hexadecimal digits.
    pub sha256: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What it is.
    pub inspected: Inspected,
}

/// Imports `source` into the folder `store`. `progress` hears how many bytes are done, of how many.
///
/// # Errors
/// [`Rejected`] where the file is not what it is said to be, is not safe, or can't be copied.
pub fn import(
    source: &Path,
    declared: DiskFormat,
    store: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<Imported, Rejected> {
    let mut from = File::open(source)?;
    inspect(&mut from, declared)?;
    fs::create_dir_all(store)?;
    let total = from.metadata()?.len();
    let partial = tempfile_in(store)?;
    let copied = copy(&mut File::open(source)?, &partial.1, total, &mut progress);
    let result = copied.and_then(|sha256| {
        let inspected = inspect(&mut File::open(&partial.0)?, declared)?;
        let target = store.join(&sha256);
        fs::set_permissions(&partial.0, fs::Permissions::from_mode(0o644))?;
        fs::rename(&partial.0, &target)?;
        File::open(store)?.sync_all()?;
        let size_bytes = fs::metadata(&target)?.len();
        Ok(Imported {
            sha256,
            size_bytes,
            inspected,
        })
    });
    if result.is_err() {
        drop(fs::remove_file(&partial.0)); // it is gone or will be swept; the error matters more
    }
    result
}

/// A new file whose name says that it is not complete.
fn tempfile_in(store: &Path) -> io::Result<(std::path::PathBuf, File)> {
    let path = store.join(format!(
        ".partial-{}-{:016x}",
        std::process::id(),
        rand::random::<u64>()
    ));
    let file = File::options().write(true).create_new(true).open(&path)?;
    Ok((path, file))
}

/// Copies and hashes; blocks of zeroes become holes.
fn copy(
    from: &mut File,
    mut to: &File,
    total: u64,
    progress: &mut impl FnMut(u64, u64),
) -> Result<String, Rejected> {
    use std::io::{Seek, SeekFrom};
    let (mut hash, mut buffer, mut done) = (Sha256::new(), vec![0; 1 << 20], 0_u64);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let block = &buffer[..count];
        hash.update(block);
        done += count as u64;
        if block.iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Start(done))?;
        } else {
            to.write_all(block)?;
        }
        progress(done, total);
    }
    to.set_len(done)?;
    to.sync_all()?;
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_content_and_nothing_is_left_of_a_refused_one() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (dir.path().join("disk"), dir.path().join("store"));
        let mut disk = vec![0_u8; 3 << 20];
        disk[1 << 20] = 7;
        fs::write(&source, &disk).unwrap();
        let mut last = 0;
        let imported = import(&source, DiskFormat::Raw, &store, |done, _| last = done).unwrap();
        assert_eq!(imported.sha256, hex::encode(Sha256::digest(&disk)));
        assert_eq!((imported.size_bytes, last), (3 << 20, 3 << 20));
        assert_eq!(fs::read(store.join(&imported.sha256)).unwrap(), disk);
        assert!(import(&source, DiskFormat::Qcow2, &store, |_, _| ()).is_err());
        assert_eq!(fs::read_dir(&store).unwrap().count(), 1);
    }
}

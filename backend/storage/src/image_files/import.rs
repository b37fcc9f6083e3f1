//! The import of an image file into the store: inspected, copied, hashed while copying, flushed, and only
//! then named by its content. What was inspected is what was copied: the copy is inspected again.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use cumulet_domain::image::DiskFormat;
use sha2::{Digest, Sha256};

use crate::image_files::inspect::{Inspected, Rejected, inspect};

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

/// How far an import is. Each stage but the second is short, or as long as the disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The file is looked at, before anything is written.
    Inspecting,
    /// So many of its bytes are copied and hashed, of so many.
    Copying {
        /// Bytes that are done.
        done: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// The copy is brought to the disk.
    Flushing,
    /// The copy is looked at in its turn.
    Verifying,
}

/// Imports `source` into the folder `store`. `progress` hears of each stage, and of each mebibyte copied.
///
/// # Errors
/// [`Rejected`] where the file is not what it is said to be, is not safe, or can't be copied.
pub fn import(
    source: &Path,
    declared: DiskFormat,
    store: &Path,
    mut progress: impl FnMut(Stage),
) -> Result<Imported, Rejected> {
    progress(Stage::Inspecting);
    let mut from = File::open(source)?;
    inspect(&mut from, declared)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(store)?;
    sweep(store)?;
    let total = from.seek(SeekFrom::End(0))?;
    let partial = tempfile_in(store)?;
    let copied = copy(&mut File::open(source)?, &partial.1, total, &mut progress);
    let result = copied.and_then(|sha256| {
        progress(Stage::Verifying);
        let inspected = inspect(&mut File::open(&partial.0)?, declared)?;
        let target = store.join(&sha256);
        fs::set_permissions(&partial.0, fs::Permissions::from_mode(0o600))?;
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

/// How the names of files begin that are not complete.
const PARTIAL: &str = ".partial-";

/// A file that is not complete and that nobody has locked is somebody's who has just made it, or nobody's after this.
const AGE: Duration = Duration::from_secs(60);

/// A new file whose name says that it is not complete. It is locked for as long as it is open.
fn tempfile_in(store: &Path) -> io::Result<(std::path::PathBuf, File)> {
    let name = format!("{PARTIAL}{}-{:016x}", std::process::id(), rand::random::<u64>());
    let path = store.join(name);
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(&path)?;
    // A file system without locks keeps it until it is done, or for good.
    drop(file.try_lock());
    Ok((path, file))
}

/// Removes what imports have left that ended early; how many files.
///
/// # Errors
/// Those of the file system. A store that is not there yet has nothing.
pub fn sweep(store: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut swept = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) && is_left(&entry.path()) {
            fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Whether nobody writes a partial file any more.
fn is_left(path: &Path) -> bool {
    let old = fs::symlink_metadata(path).and_then(|found| found.modified());
    let old = old.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > AGE));
    old && File::options()
        .write(true)
        .open(path)
        .is_ok_and(|file| file.try_lock().is_ok())
}

/// Copies and hashes; blocks of zeroes become holes.
fn copy(
    from: &mut File,
    mut to: &File,
    total: u64,
    progress: &mut impl FnMut(Stage),
) -> Result<String, Rejected> {
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
        progress(Stage::Copying { done, total });
    }
    progress(Stage::Flushing);
    to.set_len(done)?;
    to.sync_all()?;
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_import_left_that_ended_early_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        assert_eq!(sweep(&store).unwrap(), 0, "no store yet");
        fs::create_dir(&store).unwrap();
        let old = |file: &File| {
            let long_ago = file.metadata().unwrap().modified().unwrap() - 2 * AGE;
            file.set_modified(long_ago).unwrap();
        };
        // One that another process writes, one that was just made, one that was left, and an image.
        let (writing, held) = tempfile_in(&store).unwrap();
        old(&held);
        let made = store.join(format!("{PARTIAL}1-2"));
        File::create(&made).unwrap();
        let (left, file) = tempfile_in(&store).unwrap();
        old(&file);
        drop(file);
        let image = store.join("ab".repeat(32));
        old(&File::create(&image).unwrap());
        assert_eq!(sweep(&store).unwrap(), 1);
        assert!(writing.exists() && made.exists() && !left.exists() && image.exists());
        drop(held);
        assert_eq!(sweep(&store).unwrap(), 1);
    }

    #[test]
    fn a_file_is_named_by_its_content_and_nothing_is_left_of_a_refused_one() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (dir.path().join("disk"), dir.path().join("store"));
        let mut disk = vec![0_u8; 3 << 20];
        disk[1 << 20] = 7;
        fs::write(&source, &disk).unwrap();
        let mut stages = Vec::new();
        let imported = import(&source, DiskFormat::Raw, &store, |stage| stages.push(stage)).unwrap();
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
        assert!(import(&source, DiskFormat::Qcow2, &store, |_| ()).is_err());
        assert_eq!(fs::read_dir(&store).unwrap().count(), 1);
    }
}

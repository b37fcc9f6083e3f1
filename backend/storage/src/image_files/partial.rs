//! Files of the store that are not complete. Their names say so, they are locked for as long as they are written, and
//! what nobody writes any more is swept.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// How the names of files begin that are not complete.
const PARTIAL: &str = ".partial-";

/// A file that is not complete and that nobody has locked is somebody's who has just made it, or nobody's after this.
const AGE: Duration = Duration::from_secs(60);

/// A file that is not complete; it goes when this goes, unless it was kept.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) path: PathBuf,
    /// It is locked for as long as this is open.
    pub(super) file: File,
    kept: bool,
}

impl Partial {
    /// A new file.
    pub(super) fn new(store: &Path) -> io::Result<Partial> {
        let name = format!("{PARTIAL}{}-{:016x}", std::process::id(), rand::random::<u64>());
        let path = store.join(name);
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        // A file system without locks keeps it until it is done, or for good.
        drop(file.try_lock());
        Ok(Partial {
            path,
            file,
            kept: false,
        })
    }

    /// It is complete, and gets the name that it is known by.
    pub(super) fn keep(mut self, store: &Path, name: &str) -> io::Result<()> {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600))?;
        fs::rename(&self.path, store.join(name))?;
        self.kept = true;
        File::open(store)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            drop(fs::remove_file(&self.path)); // it is gone or will be swept; what went wrong before matters more
        }
    }
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
        let held = Partial::new(&store).unwrap();
        let writing = held.path.clone();
        old(&held.file);
        let made = store.join(format!("{PARTIAL}1-2"));
        File::create(&made).unwrap();
        let left = store.join(format!("{PARTIAL}1-3"));
        old(&File::create(&left).unwrap());
        let image = store.join("ab".repeat(32));
        old(&File::create(&image).unwrap());
        assert_eq!(sweep(&store).unwrap(), 1);
        assert!(writing.exists() && made.exists() && !left.exists() && image.exists());
        drop(held);
        assert!(!writing.exists(), "what is not kept goes by itself");
    }
}

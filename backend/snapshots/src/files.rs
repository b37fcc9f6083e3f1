//! The files of the store: where they are, reading a block, and writing one file whole.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::manifest::Digest;

/// What a file is called while it is written.
pub(crate) const PARTIAL: &str = "new";

/// The bytes of a block, as memory has them.
pub(crate) const BLOCK_BYTES: usize = 512 << 10;

/// Makes a directory that is its owner's alone, if it is not there.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A new file that is its owner's alone. What has its name is replaced.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// A file that is being written, on disk and under its name.
pub(crate) fn publish(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(from, to)?;
    match to.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// A small file that is whole and on disk, and has no name yet. One that is dropped leaves nothing.
#[derive(Debug)]
pub(crate) struct Written {
    path: PathBuf,
    file: File,
}

impl Written {
    /// Writes the file that is to have this path.
    pub(crate) fn new(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let path = partial(path);
        let file = create(&path)?;
        let mut written = Written { path, file };
        written.file.write_all(bytes)?;
        written.file.sync_all()?;
        Ok(written)
    }

    /// It has its name.
    pub(crate) fn publish(self, path: &Path) -> io::Result<()> {
        publish(&self.file, &self.path, path)
    }
}

impl Drop for Written {
    /// After it got its name there is nothing of its own any more. What can't be removed goes with a sweep.
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

/// The name of a file that is not whole yet; several are written at once.
pub(crate) fn partial(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}.{PARTIAL}", std::process::id()))
}

/// Reads the block at an offset; what the file does not have of it is zeros.
pub(crate) fn read_block(file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => {
                rest.fill(0);
                return Ok(());
            }
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A file from its beginning on, wherever others are in it.
#[derive(Debug)]
pub(crate) struct FromStart<'f> {
    file: &'f File,
    at: u64,
}

impl<'f> FromStart<'f> {
    pub(crate) fn of(file: &'f File) -> Self {
        FromStart { file, at: 0 }
    }
}

impl io::Read for FromStart<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// An error with the file that it is about.
pub(crate) fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The directories of the store.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) manifests: PathBuf,
    pub(crate) segments: PathBuf,
}

impl Place {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Place {
            manifests: dir.join("manifests"),
            segments: dir.join("segments"),
        }
    }

    pub(crate) fn manifest(&self, name: Digest) -> PathBuf {
        self.manifests.join(name.to_string())
    }

    pub(crate) fn segment(&self, name: Digest) -> PathBuf {
        self.segments.join(name.to_string())
    }
}

//! The files of the store: where they are, reading a block, and writing one file whole.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

use crate::manifest::{BLOCK, Digest};

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

/// Writes a small file, whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = partial(path);
    let mut file = create(&fresh)?;
    file.write_all(bytes)?;
    publish(&file, &fresh, path)
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

/// The places of the blocks of a file that may have data, in order: those that lie in no hole.
pub(crate) struct DataBlocks<'f> {
    file: &'f File,
    /// Where to look next, and the end of the data that was found last.
    at: u64,
    end: u64,
}

impl<'f> DataBlocks<'f> {
    pub(crate) fn of(file: &'f File) -> Self {
        DataBlocks { file, at: 0, end: 0 }
    }

    /// Where data begins, from an offset on; `None` after the last.
    fn seek(&self, from: u64, whence: Whence) -> io::Result<Option<u64>> {
        let from = i64::try_from(from).map_err(io::Error::other)?;
        match lseek(self.file.as_fd(), from, whence) {
            Ok(found) => Ok(Some(found.unsigned_abs())),
            Err(Errno::ENXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn advance(&mut self) -> io::Result<Option<u64>> {
        if self.at >= self.end {
            let Some(data) = self.seek(self.at, Whence::SeekData)? else {
                return Ok(None);
            };
            let hole = self.seek(data, Whence::SeekHole)?;
            self.end = hole.ok_or_else(|| io::Error::other("the file was cut while it was read"))?;
            self.at = data / BLOCK * BLOCK;
        }
        let found = self.at;
        self.at += BLOCK;
        Ok(Some(found))
    }
}

impl Iterator for DataBlocks<'_> {
    type Item = io::Result<u64>;

    fn next(&mut self) -> Option<io::Result<u64>> {
        self.advance().transpose()
    }
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

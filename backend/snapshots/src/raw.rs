//! Disks that are raw files. Holes are never read, and never written.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::Path,
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

use crate::{
    files::{create, read_block},
    manifest::BLOCK,
    source::{Source, Target},
};

/// A raw file, as a disk.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
}

impl RawDisk {
    /// The disk in this file, to be read.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(RawDisk { file })
    }

    /// A new file that is its owner's alone, to be written. What has its path is replaced.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = create(path)?;
        Ok(RawDisk { file })
    }
}

impl Source for RawDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn data_blocks(&self) -> Box<dyn Iterator<Item = io::Result<u64>> + '_> {
        let file = &self.file;
        Box::new(DataBlocks { file, at: 0, end: 0 })
    }

    fn read_block(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        read_block(&self.file, offset, into)
    }
}

impl Target for RawDisk {
    fn prepare(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.set_len(bytes)
    }

    fn write_at(&self, offset: u64, content: &[u8]) -> io::Result<()> {
        self.file.write_all_at(content, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// The places of the blocks of a file that may have data, in order: those that lie in no hole.
struct DataBlocks<'f> {
    file: &'f File,
    /// Where to look next, and the end of the data that was found last.
    at: u64,
    end: u64,
}

impl DataBlocks<'_> {
    /// Where data begins, from an offset on; `None` after the last.
    fn seek(&self, from: u64, whence: Whence) -> io::Result<Option<u64>> {
        let from = i64::try_from(from).map_err(io::Error::other)?;
        match lseek(self.file.as_fd(), from, whence) {
            Ok(found) => Ok(Some(found.unsigned_abs())),
            Err(Errno::ENXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Two stretches of data may meet in one block: it is looked for more from the end of a block on.
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

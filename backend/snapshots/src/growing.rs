//! The file of an upload: it grows piece by piece, and what its name is to be is known all the while.

use std::{
    fs::File,
    io::{self, BufReader},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::{
    files::{BLOCK_BYTES, FromStart, named, read_block},
    manifest::{BLOCK, Digest, Entry, Reading},
};

/// What an upload becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A segment: whole blocks.
    Segment,
    /// A manifest.
    Manifest,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Growing {
    part: Part,
    pub(crate) file: File,
    pub(crate) length: u64,
    /// Of what is there: of a segment the digests of its blocks, of a manifest its bytes.
    name: Sha256,
}

impl Growing {
    /// What the file at a path has, which may be made if it is not there. Of a segment a broken block at its end is none.
    pub(crate) fn open(path: &Path, part: Part, create: bool) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(create).mode(0o600);
        let file = options.open(path).map_err(|error| named(error, path))?;
        let there = file.metadata()?.len();
        let whole = match part {
            Part::Segment => there / BLOCK * BLOCK,
            Part::Manifest => there,
        };
        file.set_len(whole)?;
        let (mut growing, mut buffer) = (
            Growing {
                part,
                file,
                length: 0,
                name: Sha256::new(),
            },
            vec![0; BLOCK_BYTES],
        );
        while growing.length < whole {
            let length = usize::try_from(whole - growing.length).unwrap_or(BLOCK_BYTES);
            let block = buffer.split_at_mut(length.min(BLOCK_BYTES)).0;
            read_block(&growing.file, growing.length, block)?;
            growing.know(block);
        }
        Ok(growing)
    }

    /// Adds what is new of a piece, which begins at the end or before it.
    pub(crate) fn add(&mut self, offset: u64, content: &[u8]) -> io::Result<()> {
        let known = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let fresh = content.get(known..).unwrap_or_default();
        if let Err(error) = self.file.write_all_at(fresh, self.length) {
            // What is there of the piece does not count.
            drop(self.file.set_len(self.length));
            return Err(error);
        }
        self.know(fresh);
        Ok(())
    }

    /// What a piece adds to the name.
    fn know(&mut self, content: &[u8]) {
        match self.part {
            Part::Manifest => self.name.update(content),
            Part::Segment => {
                for block in content.chunks(BLOCK_BYTES) {
                    self.name.update(Digest::of(block).0);
                }
            }
        }
        self.length += content.len() as u64;
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest(self.name.clone().finalize().into())
    }

    /// Goes through what there is as a manifest, of which no more is in memory than a buffer.
    pub(crate) fn walk(&self, told: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
        let from = BufReader::new(FromStart::of(&self.file));
        Reading::begin(from, self.length)?.each(told)
    }
}

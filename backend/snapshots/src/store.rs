//! The store of snapshots' data: a disk's content is taken as a snapshot, and a disk is made of one.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    files::{BLOCK_BYTES, DataBlocks, Place, create, make_dir, partial, publish, read_block, write},
    manifest::{BLOCK, Block, Digest, Manifest},
};

/// See the module. Its calls block.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    pub(crate) place: Place,
}

/// What was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The manifest's name: what the snapshot is known by from now on.
    pub manifest: Digest,
    /// The bytes of blocks that the store did not have.
    pub fresh: u64,
    /// The bytes of all of its blocks.
    pub bytes: u64,
}

impl SnapshotStore {
    /// The store in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let store = SnapshotStore::at(dir);
        store.make()?;
        Ok(store)
    }

    /// The store in this directory, whether it is there or not.
    pub fn at(dir: &Path) -> Self {
        SnapshotStore {
            place: Place::in_dir(dir),
        }
    }

    /// Makes the store's directories if they are not there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make(&self) -> io::Result<()> {
        make_dir(&self.place.manifests)?;
        make_dir(&self.place.segments)
    }

    /// Takes the content of a raw disk, which nobody changes meanwhile. Blocks that are as in the snapshot `base` are
    /// named and not kept again. Holes are never read. It may be called again, with the same outcome.
    ///
    /// # Errors
    /// Those of the file system; `InvalidData` where the base is damaged. Then nothing has come to the store.
    pub fn take(&self, disk: &Path, base: Option<Digest>) -> io::Result<Taken> {
        let source = File::open(disk)?;
        let base = base
            .map(|name| self.manifest(name))
            .transpose()?
            .unwrap_or_default();
        let mut making = Making::new(self, &base, source.metadata()?.len());
        match making.all(&source) {
            Ok(()) => making.publish(),
            Err(error) => {
                making.give_up();
                Err(error)
            }
        }
    }

    /// Makes a raw disk of a snapshot, of so many bytes if that is more than it has. What has the path is replaced.
    /// Every block is compared with its digest.
    ///
    /// # Errors
    /// Those of the file system; `InvalidData` where the snapshot is damaged. What was made of the file stays.
    pub fn restore(&self, name: Digest, disk: &Path, bytes: u64) -> io::Result<()> {
        let manifest = self.manifest(name)?;
        let out = create(disk)?;
        out.set_len(bytes.max(manifest.size))?;
        let mut segments = Segments::of(&self.place);
        let mut buffer = vec![0; BLOCK_BYTES];
        for block in &manifest.blocks {
            segments.read(&manifest, block, &mut buffer)?;
            let offset = u64::from(block.index) * BLOCK;
            // The last one may be longer than the disk.
            let length = usize::try_from(manifest.size - offset).unwrap_or(usize::MAX);
            let content = buffer.get(..length.min(BLOCK_BYTES)).unwrap_or(&buffer);
            out.write_all_at(content, offset)?;
        }
        out.sync_all()
    }

    /// Whether a manifest is what its name says, and the segments that it names are there.
    ///
    /// # Errors
    /// `NotFound`, `InvalidData`; `InvalidInput` where it is no manifest's name.
    pub fn check(&self, name: &str) -> io::Result<()> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "it is no SHA-256");
        let manifest = self.manifest(Digest::parse(name).ok_or_else(none)?)?;
        for segment in &manifest.segments {
            let path = self.place.segment(*segment);
            std::fs::metadata(&path).map_err(|error| named(error, &path))?;
        }
        Ok(())
    }

    /// Reads a manifest. That of nothing, which is no file, is known by its name.
    ///
    /// # Errors
    /// `NotFound`; `InvalidData` where it is not what its name says.
    pub(crate) fn manifest(&self, name: Digest) -> io::Result<Manifest> {
        if name == Digest::of(b"") {
            return Ok(Manifest::default());
        }
        let path = self.place.manifest(name);
        let bytes = std::fs::read(&path).map_err(|error| named(error, &path))?;
        if Digest::of(&bytes) != name {
            return Err(damaged(&path, "it is not what its name says"));
        }
        Manifest::decode(&bytes).map_err(|error| damaged(&path, error))
    }
}

/// An error with the file that it is about.
fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn damaged(path: &Path, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

/// Segments that are read, open.
pub(crate) struct Segments<'p> {
    place: &'p Place,
    open: HashMap<u32, File>,
}

/// Segments that are kept open at once: a chain of as many snapshots has that many.
const OPEN: usize = 64;

impl<'p> Segments<'p> {
    pub(crate) fn of(place: &'p Place) -> Self {
        Segments {
            place,
            open: HashMap::new(),
        }
    }

    /// Reads a block, and compares it with its digest.
    pub(crate) fn read(&mut self, manifest: &Manifest, block: &Block, into: &mut [u8]) -> io::Result<()> {
        let nowhere = || io::Error::new(io::ErrorKind::InvalidData, "a block of no segment");
        let at = usize::try_from(block.segment).map_err(io::Error::other)?;
        let path = self
            .place
            .segment(*manifest.segments.get(at).ok_or_else(nowhere)?);
        if !self.open.contains_key(&block.segment) {
            if self.open.len() >= OPEN {
                self.open.clear();
            }
            let file = File::open(&path).map_err(|error| named(error, &path))?;
            self.open.insert(block.segment, file);
        }
        let file = self.open.get(&block.segment).ok_or_else(nowhere)?;
        read_block(file, u64::from(block.slot) * BLOCK, into)?;
        if Digest::of(into) != block.digest {
            return Err(damaged(&path, format!("block {} is damaged", block.slot)));
        }
        Ok(())
    }
}

/// A snapshot that is being taken.
struct Making<'s> {
    store: &'s SnapshotStore,
    base: &'s Manifest,
    size: u64,
    /// The segment of the blocks that are new, and where it is while it is written; none before the first.
    segment: Option<(File, PathBuf)>,
    /// What its name is made of: the digests of its blocks.
    name: Sha256,
    fresh: u32,
    /// Blocks with the base's segment, or none where they are of the new one.
    blocks: Vec<(Block, bool)>,
}

impl<'s> Making<'s> {
    fn new(store: &'s SnapshotStore, base: &'s Manifest, size: u64) -> Self {
        Making {
            store,
            base,
            size,
            segment: None,
            name: Sha256::new(),
            fresh: 0,
            blocks: Vec::new(),
        }
    }

    fn all(&mut self, source: &File) -> io::Result<()> {
        let mut buffer = vec![0; BLOCK_BYTES];
        let mut last = None;
        for offset in DataBlocks::of(source) {
            let offset = offset?;
            // Two stretches of data may meet in one block.
            if last.replace(offset) == Some(offset) {
                continue;
            }
            read_block(source, offset, &mut buffer)?;
            if !is_zero(&buffer) {
                self.add(offset, &buffer)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, offset: u64, content: &[u8]) -> io::Result<()> {
        let index = u32::try_from(offset / BLOCK).map_err(io::Error::other)?;
        let digest = Digest::of(content);
        if let Some(known) = self.base.at(index).filter(|known| known.digest == digest) {
            self.blocks.push((*known, true));
            return Ok(());
        }
        let slot = self.fresh;
        let (file, _) = match &mut self.segment {
            Some(open) => open,
            none => {
                let path = partial(&self.store.place.segments.join("segment"));
                none.insert((create(&path)?, path))
            }
        };
        file.write_all_at(content, u64::from(slot) * BLOCK)?;
        self.name.update(digest.0);
        self.fresh = slot
            .checked_add(1)
            .ok_or_else(|| io::Error::other("too many blocks"))?;
        let block = Block {
            index,
            segment: 0,
            slot,
            digest,
        };
        self.blocks.push((block, false));
        Ok(())
    }

    /// The segment first, then the manifest that names it.
    fn publish(mut self) -> io::Result<Taken> {
        let fresh = match self.segment.take() {
            Some((file, path)) => {
                let name = Digest(self.name.clone().finalize().into());
                publish(&file, &path, &self.store.place.segment(name))?;
                Some(name)
            }
            None => None,
        };
        let manifest = self.manifest(fresh)?;
        let bytes = manifest.encode()?;
        let name = Digest::of(&bytes);
        write(&self.store.place.manifest(name), &bytes)?;
        Ok(Taken {
            manifest: name,
            fresh: u64::from(self.fresh) * BLOCK,
            bytes: manifest.blocks.len() as u64 * BLOCK,
        })
    }

    /// The manifest, with those segments alone that it needs.
    fn manifest(&self, fresh: Option<Digest>) -> io::Result<Manifest> {
        let nowhere = || io::Error::other("a block of no segment");
        let mut made = Manifest {
            size: self.size,
            ..Manifest::default()
        };
        let mut numbers: HashMap<Digest, u32> = HashMap::new();
        for (block, is_known) in &self.blocks {
            let name = match is_known {
                true => {
                    let at = usize::try_from(block.segment).map_err(io::Error::other)?;
                    self.base.segments.get(at).copied()
                }
                false => fresh,
            };
            let name = name.ok_or_else(nowhere)?;
            let next = u32::try_from(made.segments.len()).map_err(io::Error::other)?;
            let segment = *numbers.entry(name).or_insert_with(|| {
                made.segments.push(name);
                next
            });
            made.blocks.push(Block { segment, ..*block });
        }
        Ok(made)
    }

    fn give_up(self) {
        if let Some((_, path)) = self.segment
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "what was written of a snapshot can't be removed");
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

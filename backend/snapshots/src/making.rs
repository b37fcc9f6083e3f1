//! A snapshot that is being taken: what its base does not have goes into a segment of its own.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    cipher::{BlockKey, Cipher, KeyCheck},
    files::{BLOCK_BYTES, Place, create, partial, publish, write},
    manifest::{BLOCK, Block, Digest, Manifest},
    source::{Source, is_zero},
};

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

/// See the module.
pub(crate) struct Making<'s> {
    place: &'s Place,
    base: &'s Manifest,
    size: u64,
    /// Where it is encrypted.
    key: Option<(KeyCheck, Cipher)>,
    /// The segment of the blocks that are new, and where it is while it is written; none before the first.
    segment: Option<(File, PathBuf)>,
    /// What its name is made of: the digests of its blocks.
    name: Sha256,
    fresh: u32,
    /// Blocks with the base's segment, or none where they are of the new one.
    blocks: Vec<(Block, bool)>,
}

impl<'s> Making<'s> {
    /// The base is of the same key, or plain as this one.
    pub(crate) fn new(place: &'s Place, base: &'s Manifest, size: u64, key: Option<&BlockKey>) -> Self {
        Making {
            place,
            base,
            size,
            key: key.map(|key| (key.check(), key.cipher())),
            segment: None,
            name: Sha256::new(),
            fresh: 0,
            blocks: Vec::new(),
        }
    }

    /// Takes it. What fails leaves nothing.
    pub(crate) fn run(mut self, source: &dyn Source) -> io::Result<Taken> {
        let taken = self.read(source).and_then(|()| self.publish());
        if taken.is_err()
            && let Some((_, path)) = &self.segment
        {
            give_up(path);
        }
        taken
    }

    fn read(&mut self, source: &dyn Source) -> io::Result<()> {
        let mut buffer = vec![0; BLOCK_BYTES];
        let mut next = 0;
        for offset in source.data_blocks() {
            let offset = offset?;
            if offset >= self.size {
                return Err(io::Error::other("the disk has become larger while it was read"));
            }
            if offset < next || !offset.is_multiple_of(BLOCK) {
                return Err(io::Error::other("the disk's blocks are out of order"));
            }
            next = offset + BLOCK;
            source.read_block(offset, &mut buffer)?;
            if is_zero(&buffer) {
                continue;
            }
            if let Some((_, cipher)) = &self.key {
                cipher.encrypt(offset, &mut buffer);
            }
            self.add(offset, &buffer)?;
        }
        Ok(())
    }

    /// Adds a block, as it is to be kept.
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
                let path = partial(&self.place.segments.join("segment"));
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
    fn publish(&self) -> io::Result<Taken> {
        let fresh = match &self.segment {
            Some((file, path)) => {
                let name = Digest(self.name.clone().finalize().into());
                publish(file, path, &self.place.segment(name))?;
                Some(name)
            }
            None => None,
        };
        let manifest = self.manifest(fresh)?;
        let bytes = manifest.encode()?;
        let name = Digest::of(&bytes);
        write(&self.place.manifest(name), &bytes)?;
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
            key: self.key.as_ref().map(|(check, _)| *check),
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
}

/// A segment that has its name stays: another snapshot may have brought the same blocks. A sweep knows.
fn give_up(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "what was written of a snapshot can't be removed");
    }
}

//! A snapshot that is being taken: what its base does not have goes into a segment of its own.

use std::{collections::HashMap, io};

use sha2::{Digest as _, Sha256};

use crate::{
    backing::{Backing, NewSegment as _},
    cipher::{BlockKey, Cipher, KeyCheck},
    files::BLOCK_BYTES,
    manifest::{BLOCK, Block, Digest, Manifest},
    progress::Progress,
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
pub(crate) struct Making<'s, B: Backing> {
    backing: &'s B,
    base: &'s Manifest,
    size: u64,
    /// Where it is encrypted.
    key: Option<(KeyCheck, Cipher)>,
    /// The segment of the blocks that are new; none before the first.
    segment: Option<B::New>,
    /// What its name is made of: the digests of its blocks.
    name: Sha256,
    fresh: u32,
    /// Blocks with the base's segment, or none where they are of the new one.
    blocks: Vec<(Block, bool)>,
}

impl<'s, B: Backing> Making<'s, B> {
    /// The base is of the same key, or plain as this one.
    pub(crate) fn new(backing: &'s B, base: &'s Manifest, size: u64, key: Option<&BlockKey>) -> Self {
        Making {
            backing,
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
    pub(crate) fn run(mut self, source: &dyn Source, progress: &Progress) -> io::Result<Taken> {
        self.read(source, progress)?;
        self.publish()
    }

    fn read(&mut self, source: &dyn Source, progress: &Progress) -> io::Result<()> {
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
            progress.done(offset, self.size, 100);
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
        let segment = match &mut self.segment {
            Some(open) => open,
            none => none.insert(self.backing.begin()?),
        };
        segment.add(content)?;
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

    fn publish(mut self) -> io::Result<Taken> {
        let fresh = Digest(self.name.clone().finalize().into());
        let segment = self.segment.take().map(|segment| (segment, fresh));
        let manifest = self.manifest(segment.is_some().then_some(fresh))?;
        let bytes = manifest.encode()?;
        let name = Digest::of(&bytes);
        self.backing.publish(segment, name, &bytes)?;
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
                true => self.base.segment_of(block)?,
                false => fresh.ok_or_else(nowhere)?,
            };
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

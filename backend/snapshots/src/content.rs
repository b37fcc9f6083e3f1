//! The content of a snapshot, read as a disk out of the segments that have it. Each block is compared with its digest,
//! and decrypted after that.

use std::{cell::RefCell, io};

use crate::{
    backing::Segments,
    cipher::{BlockKey, Cipher},
    files::BLOCK_BYTES,
    manifest::{BLOCK, Block, Digest, Manifest},
    source::{Source, Target},
};

/// A snapshot that is read.
pub(crate) struct Content<'s> {
    manifest: Manifest,
    segments: RefCell<Box<dyn Segments + 's>>,
    /// Where it is encrypted.
    cipher: Option<Cipher>,
}

impl<'s> Content<'s> {
    /// A plain one is read with a key as without: the key is for the disk that is made of it.
    ///
    /// # Errors
    /// `InvalidInput` where it is encrypted, and not with this key.
    pub(crate) fn of(
        manifest: Manifest,
        segments: Box<dyn Segments + 's>,
        key: Option<&BlockKey>,
    ) -> io::Result<Self> {
        let cipher = match (manifest.key, key) {
            (None, _) => None,
            (Some(check), Some(key)) if check == key.check() => Some(key.cipher()),
            (Some(_), Some(_)) => return Err(refused("it is encrypted with another key")),
            (Some(_), None) => return Err(refused("it is encrypted, and no key was given")),
        };
        Ok(Content {
            manifest,
            segments: RefCell::new(segments),
            cipher,
        })
    }

    /// Makes a disk of it, of so many bytes if that is more than it has.
    pub(crate) fn write_to(&self, target: &dyn Target, bytes: u64) -> io::Result<()> {
        target.prepare(bytes.max(self.manifest.size))?;
        let mut buffer = vec![0; BLOCK_BYTES];
        for offset in self.data_blocks() {
            let offset = offset?;
            self.read_block(offset, &mut buffer)?;
            // The last one may be longer than the disk.
            let length = usize::try_from(self.manifest.size - offset).unwrap_or(usize::MAX);
            let content = buffer.get(..length.min(BLOCK_BYTES)).unwrap_or(&buffer);
            target.write_at(offset, content)?;
        }
        target.flush()
    }
}

impl Content<'_> {
    /// Reads a block as it is kept, and compares it with its digest.
    fn read_kept(&self, block: &Block, into: &mut [u8]) -> io::Result<()> {
        let segment = self.manifest.segment_of(block)?;
        self.segments.borrow_mut().read(segment, block.slot, into)?;
        if Digest::of(into) != block.digest {
            let what = format!("segment {segment}: block {} is damaged", block.slot);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(())
    }
}

impl Source for Content<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.manifest.size)
    }

    fn data_blocks(&self) -> Box<dyn Iterator<Item = io::Result<u64>> + '_> {
        let blocks = self.manifest.blocks.iter();
        Box::new(blocks.map(|block| Ok(u64::from(block.index) * BLOCK)))
    }

    fn read_block(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let index = u32::try_from(offset / BLOCK).map_err(io::Error::other)?;
        let Some(block) = self.manifest.at(index) else {
            into.fill(0);
            return Ok(());
        };
        self.read_kept(block, into)?;
        if let Some(cipher) = &self.cipher {
            cipher.decrypt(offset, into);
        }
        Ok(())
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

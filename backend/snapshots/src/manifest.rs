//! The manifest of a snapshot: its disk's size, the segments that it needs, and its blocks in the order of their
//! places. Numbers are big-endian. Of an encrypted snapshot, segments have and digests are of ciphertext; the manifest
//! itself is plain.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `CUMSNAP1`; of an encrypted one `CUMSNAPX` |
//! | 16 | of an encrypted one: the check value of its key |
//! | 8 | the disk's size in bytes |
//! | 4 | how many segments |
//! | 4 | how many blocks |
//! | 32 each | a segment's name |
//! | 44 each | a block: its place on the disk (4), its segment (4, from 0), its place there (4), its digest (32) |

use std::io;

use sha2::{Digest as _, Sha256};

use crate::cipher::KeyCheck;

/// The bytes of a block. (EBS has blocks of the same size, as its direct APIs show them.)
pub const BLOCK: u64 = 512 << 10;

const PLAIN: &[u8; 8] = b"CUMSNAP1";

/// A program of before has it for no manifest, and does not make a disk of ciphertext.
const ENCRYPTED: &[u8; 8] = b"CUMSNAPX";

/// Magic, the key's check value, size, and the two counts.
const HEADER: usize = 40;

/// The name of a segment.
const NAME: u64 = 32;

/// Place, segment, place in the segment, and the digest.
const ENTRY: usize = 44;

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub(crate) [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest that 64 lower-case hexadecimal digits spell; `None` if they spell none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_lower = text.len() == 64 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .ok()
            .filter(|()| is_lower)?;
        Some(Digest(bytes))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A block of a disk that is not all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its place on the disk, in blocks.
    pub(crate) index: u32,
    /// Which of the manifest's segments has it.
    pub(crate) segment: u32,
    /// Its place there, in blocks.
    pub(crate) slot: u32,
    /// The digest of its bytes as they are kept; those of a block that the disk ends in are filled up with zeros.
    pub(crate) digest: Digest,
}

/// What a snapshot consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Which key its blocks are encrypted with; none of a plain one.
    pub(crate) key: Option<KeyCheck>,
    /// The disk's size in bytes.
    pub(crate) size: u64,
    /// The names of the segments that it needs.
    pub(crate) segments: Vec<Digest>,
    /// By their places on the disk.
    pub(crate) blocks: Vec<Block>,
}

impl Manifest {
    /// The block at a place of the disk; `None` where there are zeros.
    pub(crate) fn at(&self, index: u32) -> Option<&Block> {
        let found = self.blocks.binary_search_by_key(&index, |block| block.index);
        found.ok().and_then(|place| self.blocks.get(place))
    }

    /// The name of the segment that has one of its blocks.
    ///
    /// # Errors
    /// `InvalidData` where it is of another manifest.
    pub(crate) fn segment_of(&self, block: &Block) -> io::Result<Digest> {
        let nowhere = || io::Error::new(io::ErrorKind::InvalidData, "a block of no segment");
        let at = usize::try_from(block.segment).map_err(io::Error::other)?;
        self.segments.get(at).copied().ok_or_else(nowhere)
    }

    /// As it is written.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let count = |number: usize| {
            u32::try_from(number)
                .map(u32::to_be_bytes)
                .map_err(io::Error::other)
        };
        let mut out = Vec::with_capacity(HEADER + self.segments.len() * 32 + self.blocks.len() * ENTRY);
        match &self.key {
            None => out.extend_from_slice(PLAIN),
            Some(KeyCheck(check)) => {
                out.extend_from_slice(ENCRYPTED);
                out.extend_from_slice(check);
            }
        }
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&count(self.segments.len())?);
        out.extend_from_slice(&count(self.blocks.len())?);
        for Digest(name) in &self.segments {
            out.extend_from_slice(name);
        }
        for block in &self.blocks {
            for number in [block.index, block.segment, block.slot] {
                out.extend_from_slice(&number.to_be_bytes());
            }
            out.extend_from_slice(&block.digest.0);
        }
        Ok(out)
    }

    /// Reads what was written. Whatever the bytes are, it takes no more memory than they do.
    ///
    /// # Errors
    /// `InvalidData` where they are no manifest.
    pub(crate) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let reading = Reading::begin(bytes, bytes.len() as u64)?;
        let room = |count: u32| usize::try_from(count).unwrap_or_default();
        let mut read = Manifest {
            key: reading.key,
            size: reading.size,
            segments: Vec::with_capacity(room(reading.segments)),
            blocks: Vec::with_capacity(room(reading.blocks)),
        };
        reading.each(|entry| {
            match entry {
                Entry::Segment(name) => read.segments.push(name),
                Entry::Block(block) => read.blocks.push(block),
            }
            Ok(())
        })?;
        Ok(read)
    }
}

/// A part of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The name of a segment.
    Segment(Digest),
    /// A block. All segments come before the first one.
    Block(Block),
}

/// A manifest that is read from its beginning to its end, of which nothing is kept: how large it is, and what is in it,
/// costs no memory.
pub(crate) struct Reading<R> {
    from: R,
    key: Option<KeyCheck>,
    size: u64,
    segments: u32,
    blocks: u32,
}

impl<R: io::Read> Reading<R> {
    /// Begins to read a manifest of so many bytes.
    ///
    /// # Errors
    /// `InvalidData` where it is none, as far as its head and its length tell; those of reading it.
    pub(crate) fn begin(mut from: R, bytes: u64) -> io::Result<Self> {
        let magic: [u8; 8] = array(&mut from)?;
        let key = match &magic {
            PLAIN => None,
            ENCRYPTED => Some(KeyCheck(array(&mut from)?)),
            _ => return Err(none()),
        };
        let size = u64::from_be_bytes(array(&mut from)?);
        let (segments, blocks) = (number(&mut from)?, number(&mut from)?);
        let check = key.map_or(0, |KeyCheck(check)| check.len());
        let head = (magic.len() + check + 8 + 4 + 4) as u64;
        if head + u64::from(segments) * NAME + u64::from(blocks) * ENTRY as u64 != bytes {
            return Err(none());
        }
        Ok(Reading {
            from,
            key,
            size,
            segments,
            blocks,
        })
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// `InvalidData` where it does not hold together; those of reading it, and of who is told of each.
    pub(crate) fn each(mut self, mut told: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
        for _ in 0..self.segments {
            told(Entry::Segment(Digest(array(&mut self.from)?)))?;
        }
        let mut last: Option<u32> = None;
        for _ in 0..self.blocks {
            let (index, segment) = (number(&mut self.from)?, number(&mut self.from)?);
            let block = Block {
                index,
                segment,
                slot: number(&mut self.from)?,
                digest: Digest(array(&mut self.from)?),
            };
            let follows = last.is_none_or(|last| last < index);
            let is_on_it = u64::from(index) * BLOCK < self.size;
            if !(follows && is_on_it && segment < self.segments) {
                return Err(none());
            }
            last = Some(index);
            told(Entry::Block(block))?;
        }
        Ok(())
    }
}

fn none() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no manifest")
}

/// So many bytes; what ends before them is no manifest.
fn array<const BYTES: usize>(from: &mut impl io::Read) -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    match from.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(none()),
        Err(error) => Err(error),
    }
}

fn number(from: &mut impl io::Read) -> io::Result<u32> {
    Ok(u32::from_be_bytes(array(from)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest() -> impl Strategy<Value = Digest> {
        any::<[u8; 32]>().prop_map(Digest)
    }

    fn manifest() -> impl Strategy<Value = Manifest> {
        let segments = prop::collection::vec(digest(), 1..5);
        let places = prop::collection::btree_map(
            0_u32..5000,
            (any::<prop::sample::Index>(), any::<u32>(), digest()),
            0..50,
        );
        let key = prop::option::of(any::<[u8; 16]>().prop_map(KeyCheck));
        (key, segments, places, 0..BLOCK).prop_map(|(key, segments, places, rest)| {
            let most = places.keys().next_back().copied().unwrap_or(0);
            let blocks = places.iter().map(|(index, (segment, slot, digest))| Block {
                index: *index,
                segment: u32::try_from(segment.index(segments.len())).unwrap(),
                slot: *slot,
                digest: *digest,
            });
            Manifest {
                key,
                size: u64::from(most) * BLOCK + 1 + rest,
                blocks: blocks.collect(),
                segments,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(manifest in manifest()) {
            let bytes = manifest.encode().unwrap();
            prop_assert_eq!(Manifest::decode(&bytes).unwrap(), manifest.clone());
            for block in &manifest.blocks {
                prop_assert_eq!(manifest.at(block.index), Some(block));
            }
            prop_assert_eq!(manifest.at(5000), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            start in prop::sample::select(vec![&b""[..], PLAIN, ENCRYPTED]),
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut all = start.to_vec();
            all.extend(bytes);
            if let Ok(read) = Manifest::decode(&all) {
                prop_assert_eq!(read.encode().unwrap(), all);
            }
        }

        #[test]
        fn a_part_of_one_is_none(manifest in manifest(), cut in 1_usize..100) {
            let bytes = manifest.encode().unwrap();
            let cut = bytes.len().saturating_sub(cut);
            prop_assert!(Manifest::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn what_does_not_hold_together_is_none() {
        let block = |index, segment| Block {
            index,
            segment,
            slot: 0,
            digest: Digest([7; 32]),
        };
        let one = |size, blocks| Manifest {
            key: None,
            size,
            segments: vec![Digest([1; 32])],
            blocks,
        };
        for (manifest, good) in [
            (one(BLOCK * 2, vec![block(0, 0), block(1, 0)]), true),
            (one(BLOCK + 1, vec![block(1, 0)]), true),
            (one(BLOCK, vec![block(1, 0)]), false),
            (one(BLOCK * 2, vec![block(1, 0), block(0, 0)]), false),
            (one(BLOCK * 2, vec![block(1, 0), block(1, 0)]), false),
            (one(BLOCK, vec![block(0, 1)]), false),
            (one(0, vec![]), true),
        ] {
            let read = Manifest::decode(&manifest.encode().unwrap());
            assert_eq!(read.is_ok(), good, "{manifest:?}");
        }
    }

    #[test]
    fn digests_are_spelt_in_one_way() {
        let digest = Digest::of(b"content");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        for bad in [
            "",
            "ab",
            &digest.to_string().to_uppercase(),
            &"g".repeat(64),
            &"a".repeat(66),
        ] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }
}

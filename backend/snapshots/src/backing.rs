//! The backing of a store: who has its manifests and segments, a directory or another machine.

use std::io;

use crate::manifest::Digest;

/// See the module. Its calls block.
pub trait Backing {
    /// A segment that is being written. One that is dropped is given up, and leaves nothing.
    type New: NewSegment;

    /// A manifest's bytes, which the caller compares with its name.
    ///
    /// # Errors
    /// `NotFound`; those of the backing, with the manifest's name.
    fn manifest(&self, name: Digest) -> io::Result<Vec<u8>>;

    /// The segments that a manifest names, to be read.
    fn segments(&self, manifest: Digest) -> Box<dyn Segments + '_>;

    /// A new segment.
    ///
    /// # Errors
    /// Those of the backing.
    fn begin(&self) -> io::Result<Self::New>;

    /// Keeps a snapshot: the segment that it brings, if it brings one, and the manifest that names it. What it returns
    /// for is on disk. It may be called again with the same.
    ///
    /// # Errors
    /// Those of the backing. Then there is no such manifest.
    fn publish(&self, segment: Option<(Self::New, Digest)>, name: Digest, manifest: &[u8]) -> io::Result<()>;
}

/// The segments of one manifest.
pub trait Segments {
    /// Reads the block in a slot of a segment, as it is kept; the caller compares it with its digest.
    ///
    /// # Errors
    /// Those of the backing, with the segment's name.
    fn read(&mut self, segment: Digest, slot: u32, into: &mut [u8]) -> io::Result<()>;
}

/// A segment that is being written.
pub trait NewSegment {
    /// Adds the block of the next slot.
    ///
    /// # Errors
    /// Those of the backing.
    fn add(&mut self, content: &[u8]) -> io::Result<()>;
}

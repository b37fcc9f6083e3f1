//! Disks as snapshots have to do with them, whatever they are kept as. A `Source` is what one is taken of, a `Target`
//! what one is restored to; neither is changed by anybody else meanwhile.

use std::io;

/// A disk that is read.
pub trait Source {
    /// Its size in bytes.
    ///
    /// # Errors
    /// Those of what it is kept as; so with all of these.
    fn size(&self) -> io::Result<u64>;

    /// Where the blocks begin that may have data, in bytes: each once, and in order. What is left out is zeros.
    fn data_blocks(&self) -> Box<dyn Iterator<Item = io::Result<u64>> + '_>;

    /// Reads the block that begins at an offset; what the disk does not have of it is zeros.
    ///
    /// # Errors
    /// As above.
    fn read_block(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

/// A disk that is written.
pub trait Target {
    /// Makes it so many bytes of zeros.
    ///
    /// # Errors
    /// Those of what it is kept as; `InvalidInput` where it can't be that: it is too small, or has content.
    fn prepare(&self, bytes: u64) -> io::Result<()>;

    /// Writes at an offset.
    ///
    /// # Errors
    /// Those of what it is kept as.
    fn write_at(&self, offset: u64, content: &[u8]) -> io::Result<()>;

    /// What was written is on disk when this returns.
    ///
    /// # Errors
    /// Those of what it is kept as.
    fn flush(&self) -> io::Result<()>;
}

/// Whether there is nothing but zeros.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

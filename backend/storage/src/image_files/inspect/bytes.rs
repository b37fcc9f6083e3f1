//! Bounded reads of a file that nobody trusts: what an inspector asks for is inside the file and within what it may
//! read in all, or it is refused. Arithmetic on what the file says is the caller's, and checked.

use std::{
    fmt::Display,
    io::{Read, Seek, SeekFrom},
};

use super::Rejected;

/// What the inspection of a file reads of it at the most.
pub(super) const BUDGET: u64 = 32 << 20;

/// The largest table that is read: of a disk of 16 TiB in blocks of 32 MiB it has 4 MiB.
pub(super) const MAX_TABLE: u64 = 16 << 20;

/// How much of a table is in memory at a time.
const PIECE: usize = 1 << 16;

/// The file under inspection.
pub(super) struct Bytes<'f, F> {
    file: &'f mut F,
    /// How long it is.
    pub(super) length: u64,
    /// What the reasons call it.
    format: &'static str,
    left: u64,
}

impl<'f, F: Read + Seek> Bytes<'f, F> {
    pub(super) fn new(file: &'f mut F, format: &'static str) -> Result<Self, Rejected> {
        let length = file.seek(SeekFrom::End(0))?;
        Ok(Bytes {
            file,
            length,
            format,
            left: BUDGET,
        })
    }

    /// The refusal of this file.
    pub(super) fn refuse(&self, why: impl Display) -> Rejected {
        Rejected::Unsafe {
            format: self.format,
            why: why.to_string(),
        }
    }

    /// Whether so many bytes from there on are in the file.
    pub(super) fn has(&self, offset: u64, count: u64) -> bool {
        offset.checked_add(count).is_some_and(|end| end <= self.length)
    }

    /// Bytes that have to be there: `what` of the file.
    pub(super) fn read(&mut self, what: &str, offset: u64, count: usize) -> Result<Vec<u8>, Rejected> {
        if !self.has(offset, count as u64) {
            return Err(self.refuse(format_args!("ends inside its {what}")));
        }
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| self.refuse("has larger tables than are looked at"))?;
        self.file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; count];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes, if the file is so long.
    pub(super) fn read_if(&mut self, offset: u64, count: usize) -> Result<Option<Vec<u8>>, Rejected> {
        if !self.has(offset, count as u64) {
            return Ok(None);
        }
        self.read("first bytes", offset, count).map(Some)
    }

    /// Calls `each` with every entry of a table and its number. A table is in the file and of a size that is looked at.
    pub(super) fn table<const SIZE: usize>(
        &mut self,
        what: &str,
        offset: u64,
        entries: u64,
        mut each: impl FnMut(&Self, u64, [u8; SIZE]) -> Result<(), Rejected>,
    ) -> Result<(), Rejected> {
        let bytes = entries.saturating_mul(SIZE as u64);
        if bytes > MAX_TABLE {
            return Err(self.refuse(format_args!(
                "has a {what} of {bytes} bytes; at most {MAX_TABLE} are read"
            )));
        }
        if !self.has(offset, bytes) {
            return Err(self.refuse(format_args!("ends inside its {what}")));
        }
        let (mut number, mut at, end) = (0, offset, offset + bytes);
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let piece = self.read(what, at, count)?;
            for entry in piece.as_chunks::<SIZE>().0 {
                each(self, number, *entry)?;
                number += 1;
            }
            at += count as u64;
        }
        Ok(())
    }
}

/// A field of bytes that were read; one that is not there, which no caller asks for, is zeros.
fn field<const SIZE: usize>(bytes: &[u8], at: usize) -> [u8; SIZE] {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.copied().unwrap_or([0; SIZE])
}

/// Numbers with their most significant byte first.
pub(super) mod big {
    use super::field;

    pub(in super::super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_be_bytes(field(bytes, at))
    }

    pub(in super::super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_be_bytes(field(bytes, at))
    }
}

/// Numbers with their least significant byte first.
pub(super) mod little {
    use super::field;

    pub(in super::super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_le_bytes(field(bytes, at))
    }

    pub(in super::super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(field(bytes, at))
    }

    pub(in super::super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(field(bytes, at))
    }
}

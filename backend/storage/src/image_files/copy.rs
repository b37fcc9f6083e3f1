//! Copies of disks: what is all zeros stays a hole.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use rustix::{fs::SeekFrom as Place, io::Errno};
use sha2::{Digest, Sha256};

use super::{Stage, inspect::Rejected};

/// How much is copied between two words of progress.
const PIECE: u64 = 16 << 20;

/// Copies and hashes; blocks of zeroes become holes.
pub(super) fn copy_hashed(
    from: &mut File,
    mut to: &File,
    total: u64,
    progress: &mut impl FnMut(Stage),
) -> Result<String, Rejected> {
    let (mut hash, mut buffer, mut done) = (Sha256::new(), vec![0; 1 << 20], 0_u64);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let block = &buffer[..count];
        hash.update(block);
        done += count as u64;
        if block.iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Start(done))?;
        } else {
            to.write_all(block)?;
        }
        progress(Stage::Copying { done, total });
    }
    progress(Stage::Flushing);
    to.set_len(done)?;
    to.sync_all()?;
    Ok(hex::encode(hash.finalize()))
}

/// Copies without a look at what is there: holes of the file are not read, and a file system that can shares the data.
pub(super) fn copy_data(
    mut from: &File,
    mut to: &File,
    total: u64,
    progress: &mut impl FnMut(Stage),
) -> io::Result<()> {
    let mut done = 0;
    while let Some((start, end)) = data_from(from, done, total)? {
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        let count = (end - start).min(PIECE);
        // It has become shorter meanwhile; the copy is looked at and tells it.
        if io::copy(&mut from.take(count), &mut to)? < count {
            break;
        }
        done = start + count;
        progress(Stage::Copying { done, total });
    }
    progress(Stage::Copying { done: total, total });
    to.set_len(total)
}

/// The next stretch of data.
fn data_from(file: &File, at: u64, total: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= total {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, Place::Data(at)) {
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL) => return Ok(Some((at, total))), // a file system that knows no holes
        other => other?,
    };
    let end = rustix::fs::seek(file, Place::Hole(start))?;
    Ok(Some((start, end.min(total))).filter(|(start, _)| *start < total))
}

/// The SHA-256 of a whole file.
pub(super) fn hash(mut file: &File, progress: &mut impl FnMut(Stage)) -> io::Result<String> {
    let (mut hash, mut buffer, mut done) = (Sha256::new(), vec![0; 1 << 20], 0_u64);
    let total = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..count]);
        done += count as u64;
        progress(Stage::Hashing { done, total });
    }
}

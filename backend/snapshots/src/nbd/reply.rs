//! What an NBD server answers a request with. Every length is compared with what was asked for, or with a bound, before
//! anything is read for it.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

const SIMPLE: u32 = 0x6744_6698;
const STRUCTURED: u32 = 0x668E_33EF;

/// The flag of a request's last chunk.
const LAST: u16 = 1;

const NONE: u16 = 0;
const OFFSET_DATA: u16 = 1;
const OFFSET_HOLE: u16 = 2;
const BLOCK_STATUS: u16 = 5;
/// The bit of chunks that are errors.
const ERROR: u16 = 1 << 15;

/// `base:allocation`'s flag of what reads as zeros.
const ZERO: u32 = 2;

/// The most extents that one answer may have (as many as QEMU sends).
const EXTENTS: usize = (1 << 20) / 8;

/// The most bytes of an error: numbers, and a text of 4096.
const COMPLAINT: usize = 4096 + 14;

/// How much of a text is shown.
const SHOWN: usize = 500;

/// The errors that the protocol has: EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN.
const ERRORS: [i32; 8] = [1, 5, 12, 22, 28, 75, 95, 108];

/// What a request and its answer are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cookie(pub(super) u64);

/// A stretch of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) length: u32,
    /// Whether it reads as zeros.
    pub(super) is_zero: bool,
}

/// What an answer, or a part of one, begins with.
enum Head {
    /// All of the answer to what has no content.
    Simple,
    Chunk {
        kind: u16,
        length: usize,
        is_last: bool,
    },
}

/// An error of a server that does not keep to the protocol.
pub(super) fn strange(what: impl std::fmt::Display) -> io::Error {
    let why = format!("the server does not keep to the protocol: {what}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads so many bytes.
pub(super) fn exact<const BYTES: usize>(stream: &mut impl Read) -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    fill(stream, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn fill(stream: &mut impl Read, into: &mut [u8]) -> io::Result<()> {
    stream.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the server has hung up"),
        _ => error,
    })
}

/// The number of two bytes that something begins with, and the rest.
pub(super) fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// Reads the head of an answer to the request. A refusal that is all of the answer is an error.
fn head(stream: &mut impl Read, request: Cookie) -> io::Result<Head> {
    let magic = u32::from_be_bytes(exact(stream)?);
    let (head, refusal, cookie) = match magic {
        SIMPLE => {
            let number = u32::from_be_bytes(exact(stream)?);
            (Head::Simple, number, exact(stream)?)
        }
        STRUCTURED => {
            let flags = u16::from_be_bytes(exact(stream)?);
            let kind = u16::from_be_bytes(exact(stream)?);
            let cookie = exact(stream)?;
            let length = u32::from_be_bytes(exact(stream)?);
            let chunk = Head::Chunk {
                kind,
                length: usize::try_from(length).map_err(io::Error::other)?,
                is_last: flags & LAST != 0,
            };
            (chunk, 0, cookie)
        }
        _ => return Err(strange(format!("an answer that begins with {magic:#010x}"))),
    };
    if Cookie(u64::from_be_bytes(cookie)) != request {
        return Err(strange("an answer to what was not asked"));
    }
    match refusal {
        0 => Ok(head),
        number => Err(refused(number, &[])),
    }
}

/// A text of the server's, as it may be shown: not too long, and on one line.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let shown = text.chars().filter(|letter| !letter.is_control());
    shown.take(SHOWN).collect()
}

/// What the server says is wrong. The protocol's numbers for that are Linux's.
fn refused(number: u32, text: &[u8]) -> io::Error {
    let text = match text {
        [] => String::new(),
        text => format!(": {}", shown(text)),
    };
    match i32::try_from(number) {
        Ok(known) if ERRORS.contains(&known) => {
            let known = io::Error::from_raw_os_error(known);
            io::Error::new(known.kind(), format!("the server says: {known}{text}"))
        }
        _ => io::Error::other(format!("the server says: error {number}{text}")),
    }
}

/// Reads the chunk of an error, whatever its kind.
fn complaint(stream: &mut impl Read, length: usize) -> io::Result<io::Error> {
    if length > COMPLAINT {
        return Err(strange(format!("an error of {length} bytes")));
    }
    let mut all = vec![0; length];
    fill(stream, &mut all)?;
    let short = || strange("an error that is cut off");
    let (error, rest) = all.split_first_chunk().ok_or_else(short)?;
    let (text, rest) = number(rest).ok_or_else(short)?;
    let text = rest.get(..usize::from(text)).ok_or_else(short)?;
    match u32::from_be_bytes(*error) {
        0 => Err(strange("an error that is none")),
        number => Ok(refused(number, text)),
    }
}

/// Reads all chunks of an answer: `take` those with content, of a kind and a length. An error that one of them is comes
/// back when the last has been read.
fn chunks<S: Read>(
    stream: &mut S,
    request: Cookie,
    mut take: impl FnMut(&mut S, u16, usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut wrong = None;
    loop {
        let Head::Chunk {
            kind,
            length,
            is_last,
        } = head(stream, request)?
        else {
            return Err(strange("an answer without the content that it should have"));
        };
        match kind {
            NONE if length == 0 && is_last => {}
            NONE => return Err(strange("nothing, and not at the end")),
            kind if kind & ERROR != 0 => {
                let error = complaint(stream, length)?;
                wrong.get_or_insert(error);
            }
            kind => take(stream, kind, length)?,
        }
        if is_last {
            return wrong.map_or(Ok(()), Err);
        }
    }
}

/// Reads the answer to a request that has no content: of writing, and of flushing.
pub(super) fn done(stream: &mut impl Read, request: Cookie) -> io::Result<()> {
    match head(stream, request)? {
        Head::Simple => Ok(()),
        Head::Chunk {
            kind: NONE,
            length: 0,
            is_last: true,
        } => Ok(()),
        Head::Chunk {
            kind,
            length,
            is_last: true,
        } if kind & ERROR != 0 => Err(complaint(stream, length)?),
        Head::Chunk { kind, .. } => Err(strange(format!("a chunk of kind {kind} as all of an answer"))),
    }
}

/// Reads the content that was asked for, from an offset on: all of it, each byte once.
pub(super) fn data(stream: &mut impl Read, request: Cookie, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let mut parts = Parts {
        size: into.len(),
        known: BTreeMap::new(),
    };
    chunks(stream, request, |stream, kind, length| match (kind, length) {
        (OFFSET_DATA, 9..) => {
            let at = u64::from_be_bytes(exact(stream)?);
            let part = parts.add(at.checked_sub(offset), length - 8)?;
            fill(stream, into.get_mut(part).unwrap_or_default())
        }
        (OFFSET_HOLE, 12) => {
            let at = u64::from_be_bytes(exact(stream)?);
            let length = u32::from_be_bytes(exact(stream)?);
            let length = usize::try_from(length).map_err(io::Error::other)?;
            let part = parts.add(at.checked_sub(offset), length)?;
            into.get_mut(part).unwrap_or_default().fill(0);
            Ok(())
        }
        _ => Err(strange(format!(
            "a chunk of kind {kind} and {length} bytes as content"
        ))),
    })?;
    match parts.known.values().sum::<usize>() == parts.size {
        true => Ok(()),
        false => Err(strange("less than was asked for")),
    }
}

/// The parts that have come of what was asked for.
struct Parts {
    size: usize,
    /// Their lengths, by where they begin. None is of another.
    known: BTreeMap<usize, usize>,
}

impl Parts {
    /// Where one that comes belongs.
    fn add(&mut self, from: Option<u64>, length: usize) -> io::Result<std::ops::Range<usize>> {
        let from = from.and_then(|from| usize::try_from(from).ok());
        let part = from.and_then(|from| Some(from..from.checked_add(length)?));
        let part = part.filter(|part| !part.is_empty() && part.end <= self.size);
        let part = part.ok_or_else(|| strange("content that was not asked for"))?;
        let before = self.known.range(..part.end).next_back();
        if before.is_some_and(|(from, length)| from + length > part.start) {
            return Err(strange("content that came already"));
        }
        self.known.insert(part.start, length);
        Ok(part)
    }
}

/// Reads what the server knows of a stretch of the disk, in one context.
pub(super) fn status(stream: &mut impl Read, request: Cookie, context: u32) -> io::Result<Vec<Extent>> {
    let mut found = None;
    chunks(stream, request, |stream, kind, length| {
        let extents = length.saturating_sub(4) / 8;
        let is_whole = extents * 8 + 4 == length && (1..=EXTENTS).contains(&extents);
        if kind != BLOCK_STATUS || !is_whole {
            return Err(strange(format!(
                "a chunk of kind {kind} and {length} bytes as a status"
            )));
        }
        if found.is_some() || u32::from_be_bytes(exact(stream)?) != context {
            return Err(strange("a status that was not asked for"));
        }
        let mut all = vec![0; extents * 8];
        fill(stream, &mut all)?;
        let (words, _) = all.as_chunks();
        let (pairs, _) = words.as_chunks::<2>();
        let read = pairs.iter().map(|[length, flags]| Extent {
            length: u32::from_be_bytes(*length),
            is_zero: u32::from_be_bytes(*flags) & ZERO != 0,
        });
        let read: Vec<Extent> = read.collect();
        if read.iter().any(|extent| extent.length == 0) {
            return Err(strange("a stretch of no length"));
        }
        found = Some(read);
        Ok(())
    })?;
    found.ok_or_else(|| strange("no status"))
}

//! The beginning of a connection: fixed newstyle, with structured replies and `base:allocation`, and the default export.

use std::io::{self, Read, Write};

use super::reply::{exact, fill, number, shown, strange};
use crate::manifest::BLOCK;

const GREETING: &[u8; 8] = b"NBDMAGIC";
const OPTION: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY: u64 = 0x0003_E889_0455_65A9;

/// Handshake flags: of the server and, with the same bits, of the client.
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;

const OPT_GO: u32 = 7;
const OPT_STRUCTURED_REPLY: u32 = 8;
const OPT_SET_META_CONTEXT: u32 = 10;

const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_META_CONTEXT: u32 = 4;
const REP_ERROR: u32 = 1 << 31;

const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

const ALLOCATION: &[u8] = b"base:allocation";

/// What an option may be answered with: names and texts have at most 4096 bytes.
const ANSWER: u32 = 8192;

/// What a disk's end is a multiple of, at least.
const SECTOR: u32 = 512;

/// What the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Export {
    /// The disk's size in bytes.
    pub(super) size: u64,
    flags: u16,
    /// What `base:allocation` is known by.
    pub(super) context: u32,
}

impl Export {
    pub(super) fn is_read_only(&self) -> bool {
        self.flags & (1 << 1) != 0
    }

    pub(super) fn can_flush(&self) -> bool {
        self.flags & (1 << 2) != 0
    }
}

/// Greets the server, and agrees with it.
///
/// # Errors
/// Those of the stream; `InvalidData` where the server does not keep to the protocol; `Unsupported` where it refuses.
pub(super) fn negotiate(stream: &mut (impl Read + Write)) -> io::Result<Export> {
    greet(stream)?;
    option(stream, OPT_STRUCTURED_REPLY, &[])?;
    match answer(stream, OPT_STRUCTURED_REPLY)? {
        (REP_ACK, _) => {}
        (kind, _) => return Err(strange(format!("a reply of kind {kind} to a wish"))),
    }
    let context = context(stream)?;
    let (size, flags) = go(stream)?;
    Ok(Export { size, flags, context })
}

fn greet(stream: &mut (impl Read + Write)) -> io::Result<()> {
    if exact(stream)? != *GREETING {
        return Err(strange("it is no NBD server"));
    }
    if exact(stream)? != *OPTION {
        return Err(strange("a server of the old style"));
    }
    let flags = u16::from_be_bytes(exact(stream)?);
    if flags & FIXED_NEWSTYLE == 0 {
        return Err(strange("a server of the new style that is not fixed"));
    }
    let ours = u32::from(flags & (FIXED_NEWSTYLE | NO_ZEROES));
    stream.write_all(&ours.to_be_bytes())
}

fn option(stream: &mut impl Write, option: u32, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    let mut out = OPTION.to_vec();
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(data);
    stream.write_all(&out)
}

/// One reply to an option: its kind, and what it has. A refusal is an error.
fn answer(stream: &mut impl Read, option: u32) -> io::Result<(u32, Vec<u8>)> {
    if u64::from_be_bytes(exact(stream)?) != OPTION_REPLY {
        return Err(strange("no reply to an option"));
    }
    let of = u32::from_be_bytes(exact(stream)?);
    if of != option {
        return Err(strange(format!("a reply to option {of}, not {option}")));
    }
    let kind = u32::from_be_bytes(exact(stream)?);
    let length = u32::from_be_bytes(exact(stream)?);
    if length > ANSWER {
        return Err(strange(format!("a reply of {length} bytes to option {option}")));
    }
    let mut data = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    fill(stream, &mut data)?;
    if kind & REP_ERROR == 0 {
        return Ok((kind, data));
    }
    let why = format!(
        "the server refuses option {option}, error {}: {}",
        kind & !REP_ERROR,
        shown(&data)
    );
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Has `base:allocation` told; what it is known by.
fn context(stream: &mut (impl Read + Write)) -> io::Result<u32> {
    // The default export, which has no name, and one query.
    let mut data = vec![0, 0, 0, 0, 0, 0, 0, 1];
    data.extend_from_slice(
        &u32::try_from(ALLOCATION.len())
            .map_err(io::Error::other)?
            .to_be_bytes(),
    );
    data.extend_from_slice(ALLOCATION);
    option(stream, OPT_SET_META_CONTEXT, &data)?;
    let mut found = None;
    loop {
        let (kind, data) = answer(stream, OPT_SET_META_CONTEXT)?;
        match (kind, data.split_first_chunk()) {
            (REP_META_CONTEXT, Some((id, ALLOCATION))) if found.is_none() => {
                found = Some(u32::from_be_bytes(*id));
            }
            (REP_META_CONTEXT, _) => return Err(strange("a context that was not asked for")),
            (REP_ACK, _) => break,
            _ => return Err(strange(format!("a reply of kind {kind} to a query of contexts"))),
        }
    }
    let none = || {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "the server does not tell what is allocated",
        )
    };
    found.ok_or_else(none)
}

/// Begins the transmission: the disk's size, and its flags.
fn go(stream: &mut (impl Read + Write)) -> io::Result<(u64, u16)> {
    // The default export, and no wishes on what is told of it.
    option(stream, OPT_GO, &[0; 6])?;
    let mut export = None;
    loop {
        let (kind, data) = answer(stream, OPT_GO)?;
        match kind {
            REP_INFO => match number(&data) {
                Some((INFO_EXPORT, rest)) => export = Some(size(rest)?),
                Some((INFO_BLOCK_SIZE, rest)) => block_size(rest)?,
                Some(_) => {}
                None => return Err(strange("information of no kind")),
            },
            REP_ACK => break,
            _ => return Err(strange(format!("a reply of kind {kind} to the wish to go on"))),
        }
    }
    export.ok_or_else(|| strange("no word on the disk's size"))
}

/// A size that a manifest's blocks can have, so that no sum overflows.
fn size(info: &[u8]) -> io::Result<(u64, u16)> {
    let read = info.split_first_chunk().filter(|(_, flags)| flags.len() == 2);
    let (size, flags) = read.ok_or_else(|| strange("no word on the disk's size"))?;
    let size = u64::from_be_bytes(*size);
    if size > BLOCK << 32 {
        return Err(strange(format!("a disk of {size} bytes")));
    }
    let (flags, _) = number(flags).unwrap_or_default();
    Ok((size, flags))
}

/// Which requests the server takes: it has to take blocks, and sectors.
fn block_size(info: &[u8]) -> io::Result<()> {
    let (sizes, rest) = info.as_chunks().0.split_at_checked(3).unwrap_or_default();
    let [least, _, most] = sizes else {
        return Err(strange("no word on the sizes of requests"));
    };
    let (least, most) = (u32::from_be_bytes(*least), u32::from_be_bytes(*most));
    if !rest.is_empty() || least > SECTOR || u64::from(most) < BLOCK {
        let why = format!("the server takes requests of {least} to {most} bytes");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(())
}

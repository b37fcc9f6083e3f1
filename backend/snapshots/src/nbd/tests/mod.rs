//! Tests of the client, against QEMU's server and against bytes that no server should send.

mod decoding;
mod hostile;
mod qemu;

use super::reply::Cookie;
use crate::BLOCK;

/// The size of the disk that is talked about.
const SIZE: u64 = 2 * BLOCK;

/// What a good server begins with.
fn greeting() -> Vec<u8> {
    let mut bytes = b"NBDMAGICIHAVEOPT".to_vec();
    bytes.extend([0, 3]);
    bytes
}

fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = 0x0003_E889_0455_65A9_u64.to_be_bytes().to_vec();
    for number in [option, kind, u32::try_from(data.len()).unwrap()] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

/// The information on an export.
fn export(size: u64, flags: u16) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(size.to_be_bytes());
    bytes.extend(flags.to_be_bytes());
    bytes
}

/// What a good server answers to the options, whose flags are those of one that can flush.
fn agreed() -> Vec<u8> {
    let mut context = 7_u32.to_be_bytes().to_vec();
    context.extend(b"base:allocation");
    [
        greeting(),
        option_reply(8, 1, &[]),
        option_reply(10, 4, &context),
        option_reply(10, 1, &[]),
        option_reply(7, 3, &export(SIZE, 0b101)),
        option_reply(7, 1, &[]),
    ]
    .concat()
}

fn simple(error: u32, request: Cookie) -> Vec<u8> {
    let mut bytes = 0x6744_6698_u32.to_be_bytes().to_vec();
    bytes.extend(error.to_be_bytes());
    bytes.extend(request.0.to_be_bytes());
    bytes
}

fn chunk(is_last: bool, kind: u16, request: Cookie, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    [&head(is_last, kind, request, length)[..], data].concat()
}

/// The head of a chunk that may be longer than it is.
fn head(is_last: bool, kind: u16, request: Cookie, length: u32) -> Vec<u8> {
    let mut bytes = 0x668E_33EF_u32.to_be_bytes().to_vec();
    bytes.extend(u16::from(is_last).to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(request.0.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

fn data_chunk(is_last: bool, request: Cookie, offset: u64, data: &[u8]) -> Vec<u8> {
    chunk(is_last, 1, request, &[&offset.to_be_bytes()[..], data].concat())
}

fn hole_chunk(is_last: bool, request: Cookie, offset: u64, length: u32) -> Vec<u8> {
    let data = [&offset.to_be_bytes()[..], &length.to_be_bytes()].concat();
    chunk(is_last, 2, request, &data)
}

fn error_chunk(is_last: bool, request: Cookie, error: u32, text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let data = [&error.to_be_bytes()[..], &length.to_be_bytes(), text].concat();
    chunk(is_last, 0x8001, request, &data)
}

fn status_chunk(is_last: bool, request: Cookie, context: u32, extents: &[(u32, u32)]) -> Vec<u8> {
    let mut data = context.to_be_bytes().to_vec();
    for (length, flags) in extents {
        data.extend(length.to_be_bytes());
        data.extend(flags.to_be_bytes());
    }
    chunk(is_last, 5, request, &data)
}

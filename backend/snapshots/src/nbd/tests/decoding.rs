//! What a server may send, in any form: it is read as it was meant, or refused.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;

use super::*;
use crate::nbd::{handshake, reply};

const REQUEST: Cookie = Cookie(0x0102_0304_0506_0708);
const OFFSET: u64 = 1 << 33;

/// A server that says what it says, whatever it hears.
struct Said(Cursor<Vec<u8>>);

impl Read for Said {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Said {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        Ok(content.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer in pieces, in any order, some of which are holes; and what it says.
fn answer() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let pieces = prop::collection::vec((1_usize..300, prop::option::of(any::<u8>())), 1..8);
    let pieces = pieces.prop_map(|pieces| {
        let mut at = 0;
        let pieces = pieces.into_iter().map(|(length, fill)| {
            at += length;
            (at - length, length, fill)
        });
        pieces.collect::<Vec<_>>()
    });
    (pieces.prop_shuffle(), any::<bool>()).prop_map(|(pieces, ends_with_nothing)| {
        let size = pieces.iter().map(|(_, length, _)| length).sum();
        let (mut bytes, mut content) = (Vec::new(), vec![0; size]);
        let last = pieces.len() - 1;
        for (number, (at, length, fill)) in pieces.into_iter().enumerate() {
            let is_last = number == last && !ends_with_nothing;
            let offset = OFFSET + at as u64;
            match fill {
                Some(fill) => {
                    content[at..at + length].fill(fill);
                    bytes.extend(data_chunk(is_last, REQUEST, offset, &content[at..at + length]));
                }
                None => {
                    let length = u32::try_from(length).unwrap();
                    bytes.extend(hole_chunk(is_last, REQUEST, offset, length));
                }
            }
        }
        if ends_with_nothing {
            bytes.extend(chunk(true, 0, REQUEST, &[]));
        }
        (bytes, content)
    })
}

proptest! {
    #[test]
    fn content_in_pieces_is_put_together((bytes, content) in answer(), more in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut into = vec![0xEE; content.len()];
        let mut stream = Cursor::new([&bytes[..], &more].concat());
        reply::data(&mut stream, REQUEST, OFFSET, &mut into).unwrap();
        prop_assert_eq!(&into, &content);
        // What comes after it is of the next answer.
        prop_assert_eq!(stream.position(), bytes.len() as u64);
    }

    #[test]
    fn a_part_of_an_answer_is_an_error((bytes, content) in answer(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(bytes.len());
        let mut into = vec![0; content.len()];
        prop_assert!(reply::data(&mut &bytes[..cut], REQUEST, OFFSET, &mut into).is_err());
    }

    #[test]
    fn a_damaged_answer_is_read_or_refused(
        (mut bytes, content) in answer(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let mut into = vec![0; content.len()];
        drop(reply::data(&mut &bytes[..], REQUEST, OFFSET, &mut into));
        drop(reply::status(&mut &bytes[..], REQUEST, 7));
        drop(reply::done(&mut &bytes[..], REQUEST));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        magic in prop::sample::select(vec![&b""[..], b"\x66\x8E\x33\xEF", b"\x67\x44\x66\x98"]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [magic, &rest].concat();
        drop(reply::data(&mut &bytes[..], REQUEST, OFFSET, &mut [0; 64]));
        drop(reply::status(&mut &bytes[..], REQUEST, 7));
        drop(reply::done(&mut &bytes[..], REQUEST));
        drop(handshake::negotiate(&mut Said(Cursor::new(bytes))));
    }

    #[test]
    fn a_damaged_handshake_is_read_or_refused(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = agreed();
        prop_assert!(handshake::negotiate(&mut Said(Cursor::new(bytes.clone()))).is_ok());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        drop(handshake::negotiate(&mut Said(Cursor::new(bytes.clone()))));
        bytes.truncate(at);
        prop_assert!(handshake::negotiate(&mut Said(Cursor::new(bytes))).is_err());
    }

    #[test]
    fn a_status_is_read_as_it_was_meant(extents in prop::collection::vec((1_u32.., 0_u32..16), 1..50)) {
        let bytes = status_chunk(true, REQUEST, 9, &extents);
        let read = reply::status(&mut &bytes[..], REQUEST, 9).unwrap();
        let read: Vec<(u32, bool)> = read.iter().map(|extent| (extent.length, extent.is_zero)).collect();
        let meant: Vec<(u32, bool)> = extents.iter().map(|(length, flags)| (*length, flags & 2 != 0)).collect();
        prop_assert_eq!(read, meant);
    }
}

//! Strict readings of what users write as text: one spelling of a number, one base64. Text that is nearly
//! right is refused, so that it never falls into another, wider meaning. Every door reads with these.

use std::{fmt::Display, str::FromStr};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// The standard alphabet. Padding may be left out, as old clients do; what is there must be right.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A number in the spelling that it is printed in: no sign that says nothing, no leading zero, no space.
pub fn number<T: FromStr + Display>(text: &str) -> Option<T> {
    let number: T = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The bytes that base64 text stands for. Line breaks and other white space don't count: `base64` on a
/// command line and old clients break long text into lines.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let compact: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    BASE64.decode(compact).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        for (text, value) in [
            ("0", Some(0)),
            ("6", Some(6)),
            ("-1", Some(-1)),
            ("65535", Some(65_535)),
            ("2147483647", Some(i32::MAX)),
            ("2147483648", None),
            ("06", None),
            ("+6", None),
            ("-06", None),
            ("-0", None),
            ("00", None),
            (" 6", None),
            ("6 ", None),
            ("6.0", None),
            ("0x6", None),
            ("6e0", None),
            ("٦", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(number::<i32>(text), value, "{text:?}");
        }
        assert_eq!((number::<u8>("255"), number::<u8>("256")), (Some(255), None));
    }

    #[test]
    fn base64_is_read_alike_with_and_without_padding_and_line_breaks() {
        for (text, bytes) in [
            ("", Some("")),
            ("aGk=", Some("hi")),
            ("aGk", Some("hi")),
            ("aGk=\n", Some("hi")),
            ("a G\r\nk\t=", Some("hi")),
            ("aGkh", Some("hi!")),
            ("aA==", Some("h")),
            ("aA", Some("h")),
            ("a", None),
            ("aGk==", None),
            ("aGk=aGk=", None),
            ("=aGk", None),
            // Bits that stand for nothing.
            ("aGl=", None),
            // The alphabet of URLs.
            ("-_-_", None),
            ("#!/bin/sh", None),
        ] {
            let read = base64(text);
            assert_eq!(read.as_deref(), bytes.map(str::as_bytes), "{text:?}");
        }
    }
}

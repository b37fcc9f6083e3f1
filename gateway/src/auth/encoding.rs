//! Percent-encoding as signatures need it: decode once, strictly, and encode in the one canonical
//! way, so that what was signed is what will be read.

use std::borrow::Cow;

use super::AuthError;

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// RFC 3986's unreserved characters: never encoded.
const fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The parts of a text between characters of ASCII. (`str::split` searches in a way that is for longer ones.)
pub(super) fn parts(text: &str, between: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let (part, after) = halves(rest?, between);
        rest = after;
        Some(part)
    })
}

/// A text up to a character of ASCII, and what is after it, if it is there.
pub(super) fn halves(text: &str, between: u8) -> (&str, Option<&str>) {
    debug_assert!(between.is_ascii());
    match text.bytes().position(|byte| byte == between) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// Appends the canonical encoding of raw bytes.
pub(super) fn encode_into(out: &mut Vec<u8>, raw: &[u8]) {
    for &byte in raw {
        if unreserved(byte) {
            out.push(byte);
        } else {
            out.extend([
                b'%',
                HEX_UPPER[usize::from(byte >> 4)],
                HEX_UPPER[usize::from(byte & 15)],
            ]);
        }
    }
}

/// Decodes one name or value of a query or form: `%XX`, and `+` for a space. Refuses broken
/// escapes, bytes that are not UTF-8 (overlong forms included) and NUL.
pub(super) fn decode(text: &[u8]) -> Result<Cow<'_, str>, AuthError> {
    let bytes = if text.iter().any(|b| matches!(b, b'%' | b'+')) {
        Cow::Owned(decode_bytes(text)?)
    } else {
        Cow::Borrowed(text)
    };
    if bytes.contains(&0) {
        return Err(AuthError::MalformedQuery("a parameter contains a NUL character"));
    }
    let not_utf8 = |_| AuthError::MalformedQuery("a parameter is not valid UTF-8");
    Ok(match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).map_err(not_utf8)?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|e| not_utf8(e.utf8_error()))?),
    })
}

fn decode_bytes(text: &[u8]) -> Result<Vec<u8>, AuthError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (pair, tail) = tail.split_first_chunk::<2>().ok_or(BROKEN_ESCAPE)?;
                rest = tail;
                hex_digit(pair[0]).ok_or(BROKEN_ESCAPE)? << 4 | hex_digit(pair[1]).ok_or(BROKEN_ESCAPE)?
            }
            other => other,
        });
    }
    Ok(out)
}

const BROKEN_ESCAPE: AuthError = AuthError::MalformedQuery("a percent-encoding in the query is broken");

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Bytes of a name as they compare: decoded and in lower case. Broken escapes stay as they are.
pub(super) fn folded(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = name;
    std::iter::from_fn(move || {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        let decoded = match (byte, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => byte,
            },
            _ => byte,
        };
        Some(decoded.to_ascii_lowercase())
    })
}

/// Name and value of each parameter of a query or form, undecoded. Only `&` separates; `;` is a
/// character like any other.
pub(super) fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == b'&')
        .filter(|part| !part.is_empty())
        .map(|part| match part.iter().position(|byte| *byte == b'=') {
            Some(at) => (&part[..at], &part[at + 1..]),
            None => (part, &[][..]),
        })
}

/// Appends the canonical query: each parameter decoded and encoded again, sorted by name then value,
/// without the one whose decoded name is `except`.
pub(super) fn canonical_query<'a>(
    out: &mut Vec<u8>,
    parameters: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    except: &str,
) -> Result<(), AuthError> {
    let mut encoded: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in parameters {
        let name = decode(name)?;
        if name == except {
            continue;
        }
        let mut pair = (Vec::with_capacity(name.len()), Vec::with_capacity(value.len()));
        encode_into(&mut pair.0, name.as_bytes());
        encode_into(&mut pair.1, decode(value)?.as_bytes());
        encoded.push(pair);
    }
    encoded.sort_unstable();
    for (index, (name, value)) in encoded.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
    Ok(())
}

/// Appends the canonical path of every service but S3: dot segments and repeated slashes removed,
/// then the path *as received* encoded once more (`%20` becomes `%2520`).
pub(super) fn canonical_path(out: &mut Vec<u8>, path: &str) {
    if path.is_empty() || path == "/" {
        out.push(b'/');
        return;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    for segment in &segments {
        out.push(b'/');
        encode_into(out, segment.as_bytes());
    }
    if segments.is_empty() || path.ends_with('/') {
        out.push(b'/');
    }
}

/// Appends SigV2's canonical path: as received, `/` if there is none.
pub(super) fn canonical_path_v2(out: &mut Vec<u8>, path: &str) {
    out.extend_from_slice(if path.is_empty() { b"/" } else { path.as_bytes() });
}

#[cfg(test)]
#[path = "tests/encoding.rs"]
mod tests;

//! Signature Version 4: the canonical request, the signing key and the comparison.

use std::cell::RefCell;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use cumulet_certs::{SecretBytes, SecretString};

use super::claim::{ALGORITHM, Scope, V4Claim};
use super::encoding::{canonical_path, canonical_query, pairs, parts};
use super::headers::Headers;
use super::payload::{DIFFERS, UNSIGNED};
use super::{AuthError, RequestHead};

/// Signing keys with HMAC's two first blocks already hashed.
pub(super) type SigningKey = Hmac<Sha256>;

thread_local! {
    /// The canonical request and the string to sign are written here, so that a verification
    /// allocates nothing for them. Only used between two await points.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Larger buffers than this are given back.
const MAX_SCRATCH: usize = 16 * 1024;

/// What of the body is in the canonical request.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// The hash of this, which is all of it.
    Whole(&'a [u8]),
    /// What the head states of it, which is yet to come.
    Stated(&'a [u8]),
}

/// Derives the signing key of a scope from the secret access key.
pub(super) fn derive_key(secret: &SecretString, scope: &Scope<'_>) -> SigningKey {
    let prefixed = SecretBytes::new([b"AWS4", secret.expose().as_bytes()].concat());
    let mut key = mac(prefixed.expose());
    for part in [scope.date, scope.region, scope.service, "aws4_request"] {
        key.update(part.as_bytes());
        key = mac(&key.finalize().into_bytes());
    }
    key
}

fn mac(key: &[u8]) -> SigningKey {
    // HMAC takes keys of every length; the alternative is never used.
    SigningKey::new_from_slice(key).unwrap_or_else(|_| SigningKey::new(&Default::default()))
}

/// Checks that everything that must be signed is, before any secret is looked up. The body may be `unsigned` where its
/// service takes that.
pub(super) fn check_coverage(
    head: &RequestHead<'_>,
    headers: &Headers<'_>,
    claim: &V4Claim<'_>,
    unsigned: bool,
) -> Result<(), AuthError> {
    for (name, _) in head.headers {
        let is_amz = name
            .get(..6)
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-amz-"));
        if is_amz && !parts(claim.signed_headers, b';').any(|signed| signed.eq_ignore_ascii_case(name)) {
            return Err(AuthError::Unsigned(
                format!("there were headers present in the request which were not signed: {name}").into(),
            ));
        }
    }
    match headers.amz_content_sha256 {
        Some(hash) if hash == UNSIGNED && !unsigned => {
            Err(AuthError::Payload("the payload must be signed for this service"))
        }
        Some(hash) if hash.starts_with(b"STREAMING-") => Err(AuthError::Payload(
            "streaming payloads are not supported for this service",
        )),
        _ => Ok(()),
    }
}

/// Whether `key` makes the claimed signature over the request as it was received.
pub(super) fn verify(
    head: &RequestHead<'_>,
    headers: &Headers<'_>,
    content: Content<'_>,
    claim: &V4Claim<'_>,
    key: SigningKey,
) -> Result<(), AuthError> {
    let claimed = decode_signature(claim.signature)?;
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.shrink_to(MAX_SCRATCH);
        canonical_request(scratch, head, headers, content, claim)?;
        let hash = hex32(&Sha256::digest(scratch.as_slice()).into());
        scratch.clear();
        for line in [ALGORITHM, &claim.timestamp, claim.scope.line] {
            scratch.extend_from_slice(line.as_bytes());
            scratch.push(b'\n');
        }
        scratch.extend_from_slice(&hash);
        let computed = key.chain_update(scratch.as_slice()).finalize().into_bytes();
        if computed.as_slice().ct_eq(&claimed).into() {
            Ok(())
        } else {
            Err(AuthError::SignatureMismatch)
        }
    })
}

fn canonical_request(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    headers: &Headers<'_>,
    content: Content<'_>,
    claim: &V4Claim<'_>,
) -> Result<(), AuthError> {
    out.extend_from_slice(head.method.as_bytes());
    out.push(b'\n');
    canonical_path(out, head.path);
    out.push(b'\n');
    if !head.query.is_empty() {
        // Of a header-signed request nothing is left out: it has no such parameter.
        canonical_query(out, pairs(head.query.as_bytes()), "X-Amz-Signature")?;
    }
    out.push(b'\n');
    for name in parts(claim.signed_headers, b';') {
        canonical_header(out, head, name)?;
    }
    out.push(b'\n');
    out.extend_from_slice(claim.signed_headers.as_bytes());
    out.push(b'\n');
    push_content(out, headers, content)
}

/// Appends the line that stands for the body.
fn push_content(out: &mut Vec<u8>, headers: &Headers<'_>, content: Content<'_>) -> Result<(), AuthError> {
    let body = match content {
        Content::Whole(body) => body,
        Content::Stated(stated) => {
            out.extend_from_slice(stated);
            return Ok(());
        }
    };
    let body_hash = hex32(&Sha256::digest(body).into());
    // Presigned or not: a declared hash must be the body's. In the canonical request stands the
    // computed one.
    if headers
        .amz_content_sha256
        .is_some_and(|declared| declared != body_hash)
    {
        return Err(DIFFERS);
    }
    out.extend_from_slice(&body_hash);
    Ok(())
}

/// Appends `name:value\n`; values of a repeated header in their order, separated by commas.
fn canonical_header(out: &mut Vec<u8>, head: &RequestHead<'_>, name: &str) -> Result<(), AuthError> {
    let mut found = false;
    for (_, value) in head
        .headers
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
    {
        if found {
            out.push(b',');
        } else {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            found = true;
        }
        push_collapsed(out, value.trim_ascii());
    }
    if !found {
        return Err(AuthError::Unsigned(
            format!("the signed header {name} is not in the request").into(),
        ));
    }
    out.push(b'\n');
    Ok(())
}

/// Appends a value with each run of spaces made one.
fn push_collapsed(out: &mut Vec<u8>, value: &[u8]) {
    if !value.windows(2).any(|pair| pair[0] == b' ' && pair[1] == b' ') {
        out.extend_from_slice(value);
        return;
    }
    let mut space = false;
    for &byte in value {
        if !(byte == b' ' && space) {
            out.push(byte);
        }
        space = byte == b' ';
    }
}

fn decode_signature(text: &str) -> Result<[u8; 32], AuthError> {
    unhex32(text.as_bytes()).ok_or(AuthError::SignatureMismatch)
}

/// 32 bytes in lower-case hexadecimal digits.
pub(super) fn unhex32(text: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0_u8; 32];
    let lower = text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !lower || hex::decode_to_slice(text, &mut bytes).is_err() {
        return None;
    }
    Some(bytes)
}

fn hex32(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0_u8; 64];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

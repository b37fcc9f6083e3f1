//! The signature's query parameters, and the check that no parameter comes twice.

use smallvec::SmallVec;

use super::encoding::{folded, pairs};
use super::{AuthError, RequestHead};

/// The most parameters that a request may have. DescribeInstances takes 1,000 ids.
const MAX_PARAMETERS: usize = 4096;

/// Up to this many, comparing all pairs is faster than sorting.
const FEW: usize = 16;

type Names<'a> = SmallVec<[&'a [u8]; FEW]>;

/// What the names tell.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// There are parameters of a presigned request in the query.
    pub(super) presigned: bool,
    /// There are parameters of SigV2 or older, in query or body.
    pub(super) query_signed: bool,
}

impl Parameters {
    /// Looks at query and form body together, refusing any name that is there twice: in both, in
    /// another case, or encoded differently. Before the body is there, it is taken for empty.
    pub(super) fn scan(head: &RequestHead<'_>, body: &[u8]) -> Result<Self, AuthError> {
        let mut found = Self::default();
        let mut names = Names::new();
        let query = head.query.as_bytes();
        for (name, _) in pairs(query) {
            found.presigned |= is_presigned_name(name);
            found.query_signed |= is_query_signed_name(name);
            push(&mut names, name)?;
        }
        for (name, _) in pairs(body) {
            found.query_signed |= is_query_signed_name(name);
            push(&mut names, name)?;
        }
        match duplicate(&names) {
            Some(name) => Err(AuthError::DuplicateParameter(printable(name))),
            None => Ok(found),
        }
    }
}

fn push<'a>(names: &mut Names<'a>, name: &'a [u8]) -> Result<(), AuthError> {
    if names.len() == MAX_PARAMETERS {
        return Err(AuthError::MalformedQuery("the request has too many parameters"));
    }
    names.push(name);
    Ok(())
}

fn is_presigned_name(name: &[u8]) -> bool {
    // A cheap look at the first character first: it is another one nearly always.
    matches!(name.first(), Some(b'x' | b'X' | b'%'))
        && [&b"x-amz-algorithm"[..], b"x-amz-credential", b"x-amz-signature"]
            .iter()
            .any(|known| folded(name).eq(known.iter().copied()))
}

fn is_query_signed_name(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'a' | b'A' | b's' | b'S' | b'%'))
        && [&b"awsaccesskeyid"[..], b"signatureversion", b"signature"]
            .iter()
            .any(|known| folded(name).eq(known.iter().copied()))
}

/// A name that is there more than once, compared decoded and without case.
fn duplicate<'a>(names: &[&'a [u8]]) -> Option<&'a [u8]> {
    let escaped = names
        .iter()
        .any(|name| name.iter().any(|byte| matches!(byte, b'%' | b'+')));
    if !escaped && names.len() <= FEW {
        return names.iter().enumerate().find_map(|(index, name)| {
            names[..index]
                .iter()
                .any(|earlier| earlier.eq_ignore_ascii_case(name))
                .then_some(*name)
        });
    }
    // Sorted by hash first, which is fast, then by name, which nobody can make collide.
    let mut hashed: Vec<(u64, &[u8])> = names.iter().map(|name| (hash(name), *name)).collect();
    hashed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| folded(a.1).cmp(folded(b.1))));
    hashed
        .windows(2)
        .find(|pair| pair[0].0 == pair[1].0 && folded(pair[0].1).eq(folded(pair[1].1)))
        .map(|pair| pair[1].1)
}

/// FNV-1a of the folded name.
fn hash(name: &[u8]) -> u64 {
    folded(name).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A stranger's parameter name, fit for an error message.
fn printable(name: &[u8]) -> String {
    name.iter()
        .take(64)
        .map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '?' })
        .collect()
}

#[cfg(test)]
#[path = "tests/params.rs"]
mod tests;

//! Request hashes, for client tokens and pagination tokens.

use cumulet_wire::{Query, json::Members};
use sha2::{Digest, Sha256};

/// Parameters that say who asks and how, never what: the signature's and the protocol's.
fn is_envelope(key: &str) -> bool {
    const NAMES: [&str; 10] = [
        "AWSAccessKeyId",
        "Action",
        "DryRun",
        "Expires",
        "SecurityToken",
        "Signature",
        "SignatureMethod",
        "SignatureVersion",
        "Timestamp",
        "Version",
    ];
    NAMES.contains(&key)
        || key
            .get(..6)
            .is_some_and(|start| start.eq_ignore_ascii_case("x-amz-"))
}

/// The hash of all parameters but the envelope and `without`. Each text goes in with its length, so that
/// no two requests are written alike.
pub(crate) fn request(query: &Query<'_>, without: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (key, value) in query
        .iter()
        .filter(|(key, _)| !is_envelope(key) && !without.contains(key))
    {
        for text in [key, value] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
    }
    hash.finalize().into()
}

/// The same of a document of JSON, whose members at the top are its parameters.
pub(crate) fn members(members: &Members, without: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, value) in members.iter().filter(|(name, _)| !without.contains(name)) {
        for text in [name, value.as_str()] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use cumulet_wire::Protocol;

    use super::*;

    fn of(body: &str) -> [u8; 32] {
        request(
            &Query::parse(body.as_bytes(), Protocol::Ec2).unwrap(),
            &["ClientToken"],
        )
    }

    #[test]
    fn only_what_is_asked_counts() {
        let base = of("Action=RunInstances&ImageId=a&MinCount=1");
        assert_eq!(
            base,
            of("MinCount=1&ImageId=a&Action=RunInstances&ClientToken=t&DryRun=false")
        );
        assert_eq!(
            base,
            of("ImageId=a&MinCount=1&X-Amz-Date=d&Signature=s&Version=2016-11-15")
        );
        for other in [
            "ImageId=a&MinCount=2",
            "ImageId=a",
            "ImageId=a&MinCount=1&Extra=1",
            "ImageId=aMinCount&=1",
        ] {
            assert_ne!(
                Some(base),
                Query::parse(other.as_bytes(), Protocol::Ec2)
                    .ok()
                    .map(|_| of(other)),
                "{other}"
            );
        }
    }
}

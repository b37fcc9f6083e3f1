//! Tags: the limits that EC2 sets on their keys and values.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// 1 to 128 characters, case-sensitive, not starting with `aws:`.
    pub key: String,
    /// 0 to 256 characters.
    pub value: String,
}

/// Tags on one resource at the most (EC2 user guide, "Tag restrictions").
pub const MAX_TAGS: usize = 50;

/// Whether a tag's key can be a name of the metadata service, where keys are paths (EC2 user guide, "View tags
/// for your EC2 instances using instance metadata"). Keys that look like the index of a public key are refused
/// besides: cloud-init takes `1=a` for one, asks for `1/openssh-key`, and gives up on all metadata when that
/// isn't there.
pub fn can_be_read(key: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+-=.,_:@".contains(&b);
    let reserved = matches!(key, "" | "." | ".." | "_index");
    key.bytes().all(allowed) && !reserved && !looks_like_a_public_key(key)
}

/// Whether the part before the first `=` is what Python's `int()` takes for a number, such as `+1_0`.
pub fn looks_like_a_public_key(key: &str) -> bool {
    key.split_once('=').is_some_and(|(index, _)| {
        let digits = index.strip_prefix(['+', '-']).unwrap_or(index);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_')
    })
}

/// Refuses keys that an instance which is meant to read its tags can't read.
///
/// # Errors
/// `UnreadableTagKey` with the first.
pub fn all_readable<'k>(keys: impl IntoIterator<Item = &'k str>) -> Result<()> {
    match keys.into_iter().find(|key| !can_be_read(key)) {
        Some(key) => Err(Error::UnreadableTagKey { key: key.into() }),
        None => Ok(()),
    }
}

impl Tag {
    /// Checks a tag that a user wants to set.
    ///
    /// # Errors
    /// `InvalidParameter` when a length, the reserved prefix or a control character breaks the rules.
    pub fn validate(&self) -> Result<()> {
        let problem = if self.key.is_empty() || self.key.chars().count() > 128 {
            "a tag key has 1 to 128 characters"
        } else if self.value.chars().count() > 256 {
            "a tag value has at most 256 characters"
        } else if self.key.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("aws:")) {
            "tag keys starting with 'aws:' are reserved"
        } else if self.key.chars().chain(self.value.chars()).any(char::is_control) {
            "tags hold no control characters"
        } else {
            return Ok(());
        };
        Err(Error::InvalidParameter {
            name: "Tag".into(),
            value: self.key.clone(),
            reason: problem.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_the_metadata_service_can_show() {
        for (key, shown) in [
            ("Name", true),
            ("a=1", true),
            ("1a=1", true),
            ("1", true),
            ("aws:x@y+z,._-", true),
            ("1=a", false),
            ("007=a", false),
            ("+1=a", false),
            ("-1=a", false),
            ("1_0=a", false),
            (".", false),
            ("..", false),
            ("_index", false),
            ("a b", false),
            ("a/b", false),
            ("é", false),
        ] {
            assert_eq!(can_be_read(key), shown, "{key}");
        }
    }
}

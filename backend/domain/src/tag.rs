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

//! Encryption at rest, as a rule: whether what is made is encrypted, and whose data key it has.
//!
//! What is encrypted has a data key, and what is not has none. A data key is shared along a line, as on EBS: a volume of
//! an encrypted snapshot has the snapshot's, a snapshot has its volume's, and a copy its source's. An encrypted volume
//! that is empty, or made of a plain snapshot, and an encrypted copy of a plain snapshot begin a line with a key of their
//! own. Hosts go by it: what they keep of an encrypted snapshot is readable with the key of whichever volume is made of
//! it. Nothing ever loses its encryption.

/// What a request says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptionAsked {
    /// `None`: nothing.
    pub encrypted: Option<bool>,
    /// The key that it names, in any of the spellings that there are.
    pub key: Option<String>,
}

/// The data key of something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKey {
    /// It has none, and is not encrypted.
    None,
    /// It has one that nothing had before.
    Fresh,
    /// It has that of what it is made of.
    Sources,
}

/// What is encrypted was to be made into what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaysEncrypted;

/// The key of a new volume, or of a copy of a snapshot: by what was asked for, by what its account wants where nothing is
/// asked for, and by whether the snapshot that it is made of is encrypted. An account that wants encryption gets it
/// whatever is asked for.
///
/// # Errors
/// Of an encrypted snapshot nothing plain is made.
pub fn data_key(
    asked: Option<bool>,
    by_default: bool,
    source_encrypted: bool,
) -> Result<DataKey, StaysEncrypted> {
    match (asked, source_encrypted) {
        (Some(false), true) => Err(StaysEncrypted),
        (_, true) => Ok(DataKey::Sources),
        (Some(true), false) => Ok(DataKey::Fresh),
        (_, false) if by_default => Ok(DataKey::Fresh),
        (_, false) => Ok(DataKey::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [(Option<bool>, bool, bool); 12] = [
        (None, false, false),
        (None, false, true),
        (None, true, false),
        (None, true, true),
        (Some(false), false, false),
        (Some(false), false, true),
        (Some(false), true, false),
        (Some(false), true, true),
        (Some(true), false, false),
        (Some(true), false, true),
        (Some(true), true, false),
        (Some(true), true, true),
    ];

    #[test]
    fn what_is_made_has_the_key_that_ebs_would_give_it() {
        use DataKey::{Fresh, None, Sources};
        let refused = Err(StaysEncrypted);
        let expected = [
            Ok(None),
            Ok(Sources),
            Ok(Fresh),
            Ok(Sources),
            Ok(None),
            refused,
            Ok(Fresh),
            refused,
            Ok(Fresh),
            Ok(Sources),
            Ok(Fresh),
            Ok(Sources),
        ];
        for ((asked, by_default, source), expected) in TABLE.into_iter().zip(expected) {
            let found = data_key(asked, by_default, source);
            assert_eq!(found, expected, "{asked:?} {by_default} {source}");
        }
    }
}

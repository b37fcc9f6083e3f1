//! The context of EC2's actions: the framework's, and tags and keys as EC2's shapes have them.

use cumulet_backend::api::encryption::AccountKey;
use cumulet_domain::{Error, Result, account::AccountId, tag::Tag};
use cumulet_wire::ec2::shared;

use crate::fault::Fault;
pub(crate) use crate::rpc::ctx::{Ctx, id, ids, required_id};

/// The ARN of the key that an account's encrypted volumes and snapshots are shown with.
pub(crate) fn kms_key(ctx: &Ctx, account: AccountId) -> String {
    AccountKey::new(ctx.region(), account).arn()
}

/// Tags as the domain has them.
pub(crate) fn tags(given: Vec<shared::Tag>) -> Vec<Tag> {
    let tag = |tag: shared::Tag| Tag {
        key: tag.key.unwrap_or_default(),
        value: tag.value.unwrap_or_default(),
    };
    given.into_iter().map(tag).collect()
}

/// Tags as EC2 shows them.
pub(crate) fn shown_tags(tags: &[Tag]) -> Vec<shared::Tag> {
    let tag = |tag: &Tag| shared::Tag {
        key: Some(tag.key.clone()),
        value: Some(tag.value.clone()),
    };
    tags.iter().map(tag).collect()
}

/// The tags of a resource whose element EC2 leaves out where there are none. For which types that is so is in
/// `models/patches.toml` (`optional_lists`): it shows key pairs', interfaces' and rules' all the same.
pub(crate) fn tags_if_any(tags: &[Tag]) -> Option<Vec<shared::Tag>> {
    (!tags.is_empty()).then(|| shown_tags(tags))
}

/// The tags of the tag specifications for `wanted`, the only type that this operation makes.
///
/// # Errors
/// A specification for another type, or a type twice.
pub(crate) fn tags_for(wanted: &str, given: Vec<shared::TagSpecification>) -> Result<Vec<Tag>, Fault> {
    let mut all = Vec::new();
    for (n, specification) in given.into_iter().enumerate() {
        let kind = specification.resource_type.unwrap_or_default();
        if kind != wanted {
            let name = format!("TagSpecification.{}.ResourceType", n + 1);
            return Err(Fault::invalid(&name, &kind, format!("expecting {wanted}")));
        }
        all.extend(tags(specification.tags));
    }
    unique_keys(&all)?;
    Ok(all)
}

/// Refuses a key that comes twice.
///
/// # Errors
/// `InvalidParameter` with the key.
pub(crate) fn unique_keys(tags: &[Tag]) -> Result<()> {
    let mut keys: Vec<&str> = tags.iter().map(|tag| tag.key.as_str()).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::invalid(
            "Tag",
            pair[0],
            "the tag key is given more than once",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_specifications_are_for_what_is_made() {
        let specification = |kind: &str, keys: &[&str]| shared::TagSpecification {
            resource_type: Some(kind.into()),
            tags: keys
                .iter()
                .map(|key| shared::Tag {
                    key: Some((*key).into()),
                    value: None,
                })
                .collect(),
        };
        assert_eq!(
            tags_for("key-pair", vec![specification("key-pair", &["a", "b"])])
                .unwrap()
                .len(),
            2
        );
        assert!(tags_for("key-pair", vec![specification("instance", &["a"])]).is_err());
        assert!(tags_for("key-pair", vec![specification("key-pair", &["a", "a"])]).is_err());
    }
}

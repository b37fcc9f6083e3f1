//! The context of an action: what it is given besides its parameters.

use cumulet_backend::api::{ClientToken, Cloud};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    id::{Id, Resource},
    tag::Tag,
};
use cumulet_wire::{OperationInfo, ec2::shared};

use crate::{fault::Fault, fences::Meter};

/// One request, proven and checked by the prologue.
pub(crate) struct Ctx {
    /// The cloud; under DryRun its rehearsal, where every change is undone.
    pub(crate) cloud: Cloud,
    /// Who asks.
    pub(crate) who: Principal,
    /// The operation.
    pub(crate) info: &'static OperationInfo,
    /// The API version that the client speaks.
    pub(crate) version: String,
    /// The request's idempotency token with the hash of all else.
    pub(crate) token: Option<ClientToken>,
    /// A hash of what is asked, without what may differ between pages.
    pub(crate) listing: [u8; 32],
    /// What the request's work is charged to.
    pub(crate) meter: Meter,
}

impl Ctx {
    /// A context.
    pub(crate) fn new(
        cloud: Cloud,
        who: Principal,
        info: &'static OperationInfo,
        version: &str,
        meter: Meter,
    ) -> Self {
        Ctx {
            cloud,
            who,
            info,
            version: version.to_owned(),
            token: None,
            listing: [0; 32],
            meter,
        }
    }

    /// The account's number as EC2 shows it.
    pub(crate) fn account(&self) -> String {
        self.who.account.to_string()
    }

    /// The region's name.
    pub(crate) fn region(&self) -> &str {
        &self.cloud.config.region
    }

    /// The ARN of a resource of this account.
    pub(crate) fn arn(&self, resource_type: &str, id: &str) -> String {
        format!(
            "arn:aws:ec2:{}:{}:{resource_type}/{id}",
            self.region(),
            self.who.account
        )
    }
}

/// Parses an id before anything is looked up.
///
/// # Errors
/// `Malformed` for what is no id of this kind.
pub(crate) fn id<R: Resource>(text: &str) -> Result<Id<R>> {
    text.parse().map_err(|_| Error::Malformed {
        kind: R::KIND,
        id: text.chars().take(64).collect(),
    })
}

/// Parses a list of ids.
///
/// # Errors
/// `Malformed` for the first that is no id of this kind.
pub(crate) fn ids<R: Resource>(texts: &[String]) -> Result<Vec<Id<R>>> {
    texts.iter().map(|text| id(text)).collect()
}

/// Parses an id that must be there.
///
/// # Errors
/// `MissingParameter` or `Malformed`.
pub(crate) fn required_id<R: Resource>(text: Option<&str>, name: &str) -> Result<Id<R>> {
    id(text.ok_or_else(|| Error::MissingParameter { name: name.into() })?)
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
    use cumulet_domain::id::marker;

    use super::*;

    #[test]
    fn ids_are_checked_before_they_are_looked_up() {
        assert!(id::<marker::Instance>("i-0123456789abcdef0").is_ok());
        for text in ["", "i-", "i-xyz", "vol-0123456789abcdef0", "i-0123456789abcdef0 "] {
            assert!(
                matches!(id::<marker::Instance>(text), Err(Error::Malformed { .. })),
                "{text:?}"
            );
        }
        let long = "i-".repeat(500);
        assert!(matches!(id::<marker::Instance>(&long), Err(Error::Malformed { id, .. }) if id.len() == 64));
        assert!(matches!(
            required_id::<marker::Instance>(None, "InstanceId"),
            Err(Error::MissingParameter { .. })
        ));
    }

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

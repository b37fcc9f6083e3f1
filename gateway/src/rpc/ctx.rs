//! The context of an action: what it is given besides its parameters.

use std::{borrow::Cow, sync::Arc};

use cumulet_backend::api::{ClientToken, Cloud, Presence};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    id::{Id, Resource},
};
use cumulet_wire::OperationInfo;

use super::Rpc;
use crate::fences::Meter;

/// One request, proven and checked by the prologue.
pub(crate) struct Ctx {
    /// The cloud; under DryRun its rehearsal, where every change is undone.
    pub(crate) cloud: Arc<Cloud>,
    /// Who asks.
    pub(crate) who: Arc<Principal>,
    /// Whether they still wait for the answer.
    pub(crate) presence: Presence,
    /// The service that is asked.
    pub(crate) service: &'static Rpc,
    /// The operation.
    pub(crate) info: &'static OperationInfo,
    /// The API version that the client speaks.
    pub(crate) version: Cow<'static, str>,
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
        cloud: impl Into<Arc<Cloud>>,
        who: impl Into<Arc<Principal>>,
        (service, info): (&'static Rpc, &'static OperationInfo),
        version: &str,
        meter: Meter,
    ) -> Self {
        // The newest one, which nearly all clients speak, costs nothing.
        let newest = service.model.version;
        let version = if version == newest {
            Cow::Borrowed(newest)
        } else {
            Cow::Owned(version.to_owned())
        };
        Ctx {
            cloud: cloud.into(),
            who: who.into(),
            presence: Presence::default(),
            service,
            info,
            version,
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
            "arn:aws:{}:{}:{}:{resource_type}/{id}",
            self.service.model.name,
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
}

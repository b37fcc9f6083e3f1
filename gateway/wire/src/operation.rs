//! Operation descriptions for the framework, and the check of refused members.
//!
//! The table itself is generated ([`crate::ec2::operations`], and in the file of each other service) from the model, its documentation and
//! `models/actions.toml`, so that the prologue (permission, DryRun, ClientToken, paging, filters) is
//! the same code for every operation.

use crate::error::WireError;
use crate::query::{Node, Query};

/// Whether an operation changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only reads.
    Read,
    /// It changes state.
    Write,
}

/// Paging by `MaxResults` and `NextToken`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// Smallest `MaxResults`.
    pub min: i32,
    /// Largest `MaxResults`.
    pub max: i32,
}

/// The filters of a Describe operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters {
    /// The name on the wire: `Filter`, or `Filters` for a few.
    pub parameter: &'static str,
    /// The documented names, sorted; `tag:<key>` stands for `tag:` and any key.
    pub names: &'static [&'static str],
}

impl Filters {
    /// Whether the documentation has this filter.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        match name.strip_prefix("tag:") {
            Some(key) => !key.is_empty() && self.names.contains(&"tag:<key>"),
            None => self.names.binary_search(&name).is_ok(),
        }
    }
}

/// A member of the model that this cloud does not act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberPolicy {
    /// The path on the wire with `N` for a list's index: `NetworkInterface.N.Ipv6AddressCount`.
    pub parameter: &'static str,
    /// Values that mean the same as leaving it out, compared without case.
    pub defaults: &'static [&'static str],
    /// Why; the end of the sentence "The parameter X is not supported: …".
    pub reason: &'static str,
}

/// One operation that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationInfo {
    /// The `Action`.
    pub name: &'static str,
    /// The family whose file has its shapes and whose directory has its handler.
    pub family: &'static str,
    /// The permission, such as `ec2:RunInstances`.
    pub permission: &'static str,
    /// Everybody who has a key may, whatever their permissions.
    pub anyone: bool,
    /// Whether it changes anything.
    pub access: Access,
    /// What a request costs, in units of about a tenth of a millisecond of the cloud's time.
    pub weight: u32,
    /// A parameter whose number is added to that: what the request asks for so many times.
    pub weight_per: Option<&'static str>,
    /// Lists whose lengths multiply to the rows that it writes.
    pub weight_rows: &'static [&'static str],
    /// What bounds how much of what it makes an account may have: names of the domain's limits.
    pub limits: &'static [&'static str],
    /// Whether it has `DryRun`.
    pub dry_run: bool,
    /// The wire name of its idempotency token.
    pub client_token: Option<&'static str>,
    /// The wire names of its members that the model requires.
    pub required: &'static [&'static str],
    /// Its paging.
    pub paging: Option<Paging>,
    /// Its filters.
    pub filters: Option<Filters>,
    /// Members that are refused unless they have a default value.
    pub refused: &'static [MemberPolicy],
    /// Members that are accepted and have no effect; a written decision each.
    pub ignored: &'static [MemberPolicy],
}

impl OperationInfo {
    /// Refuses members that the model has and this cloud does not support, unless their value is
    /// their default.
    pub fn check_members(&self, query: &Query<'_>) -> Result<(), WireError> {
        self.refused
            .iter()
            .try_for_each(|policy| check(policy, &query.root(), policy.parameter))
    }
}

fn check(policy: &MemberPolicy, node: &Node<'_>, path: &str) -> Result<(), WireError> {
    let (name, below) = match path.split_once('.') {
        Some((name, below)) => (name, Some(below)),
        None => (path, None),
    };
    // A value where members should be is refused by the decoder, in its own words.
    let Ok(members) = node.members() else {
        return Ok(());
    };
    for (member, child) in members {
        if member != name && name != "N" {
            continue;
        }
        match below {
            Some(below) => check(policy, &child, below)?,
            None => check_leaves(policy, &child)?,
        }
    }
    Ok(())
}

fn check_leaves(policy: &MemberPolicy, node: &Node<'_>) -> Result<(), WireError> {
    let harmless =
        |value: &str| value.is_empty() || policy.defaults.iter().any(|d| d.eq_ignore_ascii_case(value));
    match node.leaves().find(|(_, value)| !harmless(value)) {
        Some((key, _)) => Err(WireError::unsupported(key, policy.reason)),
        None => Ok(()),
    }
}

/// What is known of an action's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Served here.
    Served(&'static OperationInfo),
    /// In the model and not served: `UnsupportedOperation`.
    Unserved,
    /// Not in the model: `InvalidAction`.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::WireErrorKind;
    use crate::query::Protocol;

    const INFO: OperationInfo = OperationInfo {
        name: "X",
        family: "x",
        permission: "ec2:X",
        anyone: false,
        access: Access::Write,
        weight: 5,
        weight_per: None,
        weight_rows: &[],
        limits: &[],
        dry_run: true,
        client_token: None,
        required: &[],
        paging: None,
        filters: Some(Filters {
            parameter: "Filter",
            names: &["a", "b", "tag-key", "tag:<key>"],
        }),
        refused: &[
            MemberPolicy {
                parameter: "EnclaveOptions.Enabled",
                defaults: &["false", "0"],
                reason: "no",
            },
            MemberPolicy {
                parameter: "NetworkInterface.N.Ipv6",
                defaults: &[],
                reason: "no",
            },
        ],
        ignored: &[],
    };

    #[test]
    fn refused_members_pass_with_their_default_only() {
        for (body, refused) in [
            ("EnclaveOptions.Enabled=false", None),
            ("EnclaveOptions.Enabled=False", None),
            ("EnclaveOptions.Enabled=", None),
            ("EnclaveOptions.Enabled=true", Some("EnclaveOptions.Enabled")),
            ("NetworkInterface.1.Other=1", None),
            (
                "NetworkInterface.1.Ipv6=&NetworkInterface.2.Ipv6.1.A=x",
                Some("NetworkInterface.2.Ipv6.1.A"),
            ),
            ("NetworkInterface=scalar", None),
        ] {
            let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
            let error = INFO.check_members(&query).err();
            assert_eq!(error.as_ref().map(WireError::parameter), refused, "{body}");
            assert!(error.is_none_or(|e| e.kind() == WireErrorKind::UnsupportedOperation));
        }
    }

    #[test]
    fn filters_are_known_by_documentation() {
        let filters = INFO.filters.unwrap();
        for (name, known) in [
            ("a", true),
            ("tag:Name", true),
            ("tag:a:b", true),
            ("tag:", false),
            ("tag:<key>", true),
            ("c", false),
            ("A", false),
            ("", false),
        ] {
            assert_eq!(filters.knows(name), known, "{name}");
        }
    }
}

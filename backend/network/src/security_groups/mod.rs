//! Security groups and their rules. A request changes all that it names or nothing; every change raises
//! the policy generation of the VPC, which the hosts follow.

mod authorize;
mod describe;
mod group;
mod revoke;
mod rules;

use cumulet_domain::{
    account::AccountId,
    id::{SecurityGroupId, SecurityGroupRuleId, VpcId},
    network::{Cidr, Rule, Traffic},
    tag::Tag,
};

use cumulet_store::entity::security_group;

pub use authorize::authorize;
pub use describe::{describe, describe_rules};
pub use group::{NewGroup, create, delete};
pub use revoke::{Revoke, Revoked, revoke};

/// Rules of a group in one direction at the most (VPC user guide, "Quotas").
pub const MAX_RULES: u64 = 60;
/// Groups of a VPC at the most.
pub const MAX_GROUPS: u64 = 2500;

/// A group by its id, or by its name, in any case, in the default VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GroupName {
    Id(SecurityGroupId),
    Name(String),
}

/// The other side of a rule that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerSpec {
    /// Addresses in a block.
    Cidr(Cidr),
    /// The members of a group of the same VPC.
    Group(SecurityGroupId),
    /// The same, by its name.
    GroupName(String),
    /// What no rule of this cloud can name, in the caller's words: an IPv6 block, a prefix list, a group of
    /// another account. It can be asked away, and is never there.
    Foreign(String),
}

/// A rule that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewRule {
    pub traffic: Traffic,
    pub peer: PeerSpec,
    pub description: String,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RuleView {
    pub id: SecurityGroupRuleId,
    pub group: SecurityGroupId,
    pub account: AccountId,
    pub rule: Rule,
    /// The name of the group on the other side, where it is a group.
    pub peer_name: Option<String>,
    pub description: String,
    /// Sorted by key.
    pub tags: Vec<Tag>,
}

/// A group with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub row: security_group::Model,
    /// Its rules, in the order of their making.
    pub rules: Vec<RuleView>,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

#[allow(missing_docs)] // the names say it
impl GroupView {
    pub fn id(&self) -> SecurityGroupId {
        self.row.id.0
    }

    pub fn vpc(&self) -> VpcId {
        self.row.vpc.0
    }
}

/// Which groups are wanted. Empty lists mean any; given ids and names must all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GroupQuery {
    pub ids: Vec<SecurityGroupId>,
    /// Names in the default VPC, in any case.
    pub names: Vec<String>,
    pub vpcs: Vec<VpcId>,
}

/// Which rules are wanted. Empty lists mean any; given rule ids must all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RuleQuery {
    pub ids: Vec<SecurityGroupRuleId>,
    pub groups: Vec<SecurityGroupId>,
}

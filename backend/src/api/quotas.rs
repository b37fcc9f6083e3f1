//! Quotas: how much of each kind an account may have, as it is enforced where something is made.

use cumulet_domain::{Result, account::Principal, error::Limit, volume::MAX_ATTACHED};

use super::{
    Cloud,
    accounts::{self, quota},
    instances::MAX_GROUPS_PER_INTERFACE,
    security_groups::{MAX_GROUPS, MAX_RULES},
    tags::MAX_ACCOUNT_TAGS,
};
use crate::{authority::Permission, boxed};

/// One quota of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What it bounds.
    pub limit: Limit,
    /// How much there may be.
    pub max: u64,
    /// Whether the operator can set another one.
    pub adjustable: bool,
}

/// The quotas of the caller's account.
///
/// # Errors
/// `Unauthorized`; those of the database.
#[boxed]
pub async fn describe(cloud: &Cloud, who: &Principal) -> Result<Vec<Quota>> {
    cloud.authorise(who, Permission::LIST_SERVICE_QUOTAS)?;
    let row = accounts::load(cloud.store.read(), who.account).await?;
    let of = |limit, max, adjustable| Quota {
        limit,
        max,
        adjustable,
    };
    Ok(vec![
        of(Limit::Instances, quota::quota(&row, Limit::Instances)?, true),
        of(Limit::Vcpus, quota::quota(&row, Limit::Vcpus)?, true),
        of(Limit::PublicAddresses, cloud.config.public_address_quota(), true),
        of(Limit::KeyPairs, quota::MAX_KEY_PAIRS, false),
        of(Limit::PlacementGroups, quota::MAX_PLACEMENT_GROUPS, false),
        of(Limit::Volumes, quota::MAX_VOLUMES, false),
        of(Limit::VolumeStorage, quota::MAX_VOLUME_GIB, false),
        of(Limit::VolumesPerInstance, MAX_ATTACHED as u64, false),
        of(Limit::SecurityGroups, MAX_GROUPS, false),
        of(Limit::RulesPerSecurityGroup, MAX_RULES, false),
        of(
            Limit::SecurityGroupsPerInterface,
            MAX_GROUPS_PER_INTERFACE as u64,
            false,
        ),
        of(Limit::Tags, MAX_ACCOUNT_TAGS, false),
    ])
}

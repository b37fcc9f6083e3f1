//! Quotas: how much of each kind an account may have, as it is enforced where something is made.

use cumulet_core::{RequestContext, quota};
use cumulet_domain::{
    Result,
    account::Principal,
    error::Limit,
    volume::{MAX_ATTACHED, VolumeType},
};
use cumulet_network::{
    interface_view::MAX_GROUPS as MAX_GROUPS_PER_INTERFACE,
    security_groups::{MAX_GROUPS, MAX_RULES},
};
use cumulet_store::authority::Permission;

use crate::boxed;

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
pub async fn describe(cx: &RequestContext, who: &Principal) -> Result<Vec<Quota>> {
    cx.authorise(who, Permission::LIST_SERVICE_QUOTAS)?;
    let quotas = cx.config.quotas;
    let row = quota::load(cx.store.read(), who.account).await?;
    let of = |limit, max, adjustable| Quota {
        limit,
        max,
        adjustable,
    };
    Ok(vec![
        of(Limit::Instances, quota::quota(&row, Limit::Instances), true),
        of(Limit::Vcpus, quota::quota(&row, Limit::Vcpus), true),
        of(Limit::PublicAddresses, cx.config.public_address_quota(), true),
        of(Limit::KeyPairs, quotas.key_pairs, false),
        of(Limit::PlacementGroups, quotas.placement_groups, false),
        of(Limit::Snapshots, quotas.snapshots, false),
        of(Limit::PendingSnapshots, quotas.pending_snapshots, false),
        of(
            Limit::PendingSnapshotsPerVolume,
            VolumeType::Gp3.concurrent_snapshots(),
            false,
        ),
        of(
            Limit::PendingSnapshotCopies,
            quotas.pending_snapshot_copies,
            false,
        ),
        of(Limit::AccountsPerSnapshot, quotas.accounts_per_snapshot, false),
        of(Limit::AccountsPerImage, quotas.accounts_per_image, false),
        of(Limit::Images, quotas.images, false),
        of(Limit::Volumes, quotas.volumes, false),
        of(Limit::VolumeStorage, quotas.volume_gib, false),
        of(Limit::VolumesPerInstance, MAX_ATTACHED as u64, false),
        of(Limit::SecurityGroups, MAX_GROUPS, false),
        of(Limit::RulesPerSecurityGroup, MAX_RULES, false),
        of(
            Limit::SecurityGroupsPerInterface,
            MAX_GROUPS_PER_INTERFACE as u64,
            false,
        ),
        of(Limit::Tags, quotas.tags, false),
    ])
}

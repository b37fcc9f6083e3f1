//! Quotas as Service Quotas shows them: the domain's limits under AWS's codes.

use cumulet_backend::api::quotas::{self, Quota};
use cumulet_domain::error::Limit;
use cumulet_wire::service_quotas::ServiceQuota;

use crate::{
    fault::Fault,
    rpc::{
        ctx::Ctx,
        page::{self, Pages},
    },
};

const EC2: (&str, &str) = ("ec2", "Amazon Elastic Compute Cloud (Amazon EC2)");
const VPC: (&str, &str) = ("vpc", "Amazon Virtual Private Cloud (Amazon VPC)");

/// Services with quotas: their codes and names.
pub(super) const SERVICES: [(&str, &str); 2] = [EC2, VPC];

/// What a limit is called: its service, code and name.
const fn names(limit: Limit) -> ((&'static str, &'static str), &'static str, &'static str) {
    match limit {
        Limit::Vcpus => (
            EC2,
            "L-1216C47A",
            "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        ),
        Limit::PublicAddresses => (EC2, "C-PublicAddresses", "Public IPv4 addresses per Region"),
        Limit::Instances => (EC2, "C-Instances", "Instances per Region"),
        Limit::KeyPairs => (EC2, "C-KeyPairs", "Key pairs per Region"),
        Limit::PlacementGroups => (EC2, "C-PlacementGroups", "Placement groups per Region"),
        Limit::Images => (EC2, "C-Images", "AMIs per Region"),
        Limit::Tags => (EC2, "C-Tags", "Tags of all resources per Region"),
        Limit::Volumes => (EC2, "C-Volumes", "EBS volumes per Region"),
        Limit::VolumeStorage => (
            EC2,
            "C-VolumeStorage",
            "Storage of EBS volumes per Region, in GiB",
        ),
        Limit::VolumesPerInstance => (EC2, "C-VolumesPerInstance", "EBS volumes per instance"),
        // (AWS has those of snapshots in a service of its own, `ebs`.)
        Limit::Snapshots => (EC2, "C-Snapshots", "Snapshots per Region"),
        Limit::PendingSnapshots => (EC2, "C-PendingSnapshots", "Pending snapshots per account"),
        Limit::PendingSnapshotsPerVolume => (
            EC2,
            "C-PendingSnapshotsPerVolume",
            "Concurrent snapshots per volume",
        ),
        Limit::PendingSnapshotCopies => (
            EC2,
            "C-PendingSnapshotCopies",
            "Concurrent snapshot copies per destination Region",
        ),
        Limit::AccountsPerImage => (EC2, "L-70015FFA", "AMI sharing"),
        Limit::AccountsPerSnapshot => (EC2, "C-AccountsPerSnapshot", "Accounts per shared snapshot"),
        Limit::SecurityGroups => (VPC, "L-E79EC296", "VPC security groups per Region"),
        Limit::RulesPerSecurityGroup => (VPC, "L-0EA8095F", "Inbound or outbound rules per security group"),
        Limit::SecurityGroupsPerInterface => (VPC, "L-2AFB9258", "Security groups per network interface"),
    }
}

/// What of a quota its name does not tell.
const fn description(limit: Limit) -> Option<&'static str> {
    match limit {
        Limit::Vcpus => Some("vCPUs of all instances that are not terminated, stopped ones too."),
        Limit::PublicAddresses => {
            Some("Public IPv4 addresses that instances have, however they came to them.")
        }
        Limit::Volumes | Limit::VolumeStorage => {
            Some("Volumes made by themselves; those that instances start from are not among them.")
        }
        Limit::VolumesPerInstance => Some("The volume that it starts from is one of them."),
        Limit::Instances => Some("Instances that are not terminated, stopped ones too."),
        Limit::PendingSnapshots => {
            Some("Those being taken, for copies of volumes too, and copies that are being encrypted.")
        }
        Limit::PendingSnapshotsPerVolume => Some("Of a volume of the types st1 and sc1 one."),
        Limit::AccountsPerImage => Some("The accounts that one AMI is shared with."),
        _ => None,
    }
}

/// The account's quotas of a service, by their codes.
///
/// # Errors
/// `NoSuchResourceException`; those of the domain.
pub(super) async fn of_service(ctx: &Ctx, code: &str) -> Result<Vec<ServiceQuota>, Fault> {
    if !SERVICES.iter().any(|(known, _)| *known == code) {
        return Err(no_such("service", code));
    }
    let all = quotas::describe(&ctx.cloud, &ctx.who).await?;
    let mut shown: Vec<ServiceQuota> = all.iter().map(|quota| show(ctx, quota)).collect();
    shown.retain(|quota| quota.service_code.as_deref() == Some(code));
    shown.sort_by(|a, b| a.quota_code.cmp(&b.quota_code));
    Ok(shown)
}

fn show(ctx: &Ctx, quota: &Quota) -> ServiceQuota {
    let ((service, service_name), code, name) = names(quota.limit);
    ServiceQuota {
        service_code: Some(service.into()),
        service_name: Some(service_name.into()),
        quota_arn: Some(ctx.arn(service, code)),
        quota_code: Some(code.into()),
        quota_name: Some(name.into()),
        value: Some(quota.max as f64),
        unit: Some("None".into()),
        adjustable: Some(quota.adjustable),
        global_quota: Some(false),
        quota_applied_at_level: Some("ACCOUNT".into()),
        description: description(quota.limit).map(Into::into),
        ..ServiceQuota::default()
    }
}

/// The refusal of a code that nothing has.
pub(super) fn no_such(what: &str, code: &str) -> Fault {
    let shown: String = code.chars().take(128).collect();
    let message = format!("The request failed because the specified {what} does not exist: {shown}");
    Fault::coded("NoSuchResourceException", 400, message)
}

/// What a request says about pages: how many there may be, and after which.
///
/// # Errors
/// Limits and tokens that can't be.
pub(super) fn page(
    ctx: &Ctx,
    max_results: Option<i32>,
    token: Option<&str>,
) -> Result<(Option<u32>, Option<u64>), Fault> {
    let pages = Pages {
        max_results,
        next_token: token,
        named: false,
    };
    let after = token.map(|token| page::open(ctx, token)).transpose()?;
    Ok((page::limit(ctx, &pages)?, after))
}

/// The token of the page after this one.
///
/// # Errors
/// `Internal`.
pub(super) fn token(ctx: &Ctx, next: Option<u64>) -> Result<Option<String>, Fault> {
    Ok(next.map(|next| page::seal(ctx, &next)).transpose()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_limit_has_a_code_of_its_own() {
        let codes: BTreeSet<&str> = Limit::ALL.iter().map(|limit| names(*limit).1).collect();
        assert_eq!(codes.len(), Limit::ALL.len());
        for code in codes {
            let pattern = |c: char| c.is_ascii_alphanumeric() || c == '-';
            assert!(code.starts_with("L-") || code.starts_with("C-"), "{code}");
            assert!(code.chars().all(pattern), "{code}");
        }
    }
}

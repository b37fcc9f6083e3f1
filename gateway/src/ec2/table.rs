//! The dispatch table: one line for each operation that is served.

use std::{collections::HashMap, sync::LazyLock};

use cumulet_wire::ec2::{
    images, instances, keypairs, network_interfaces, placement_groups, regions, security_groups, tags, vpcs,
};

use super::action::{TableEntry, action, listing};

/// Every action.
pub(crate) static ENTRIES: &[TableEntry] = &[
    action::<images::DeregisterImage>(),
    listing::<images::DescribeImages>(),
    listing::<instances::DescribeInstances>(),
    action::<instances::DescribeInstanceAttribute>(),
    listing::<instances::DescribeInstanceStatus>(),
    listing::<instances::DescribeInstanceTypeOfferings>(),
    listing::<instances::DescribeInstanceTypes>(),
    action::<instances::GetConsoleOutput>(),
    action::<instances::GetConsoleScreenshot>(),
    action::<instances::ModifyInstanceAttribute>(),
    action::<instances::ModifyInstanceMetadataOptions>(),
    action::<instances::RebootInstances>(),
    action::<instances::RunInstances>(),
    action::<instances::StartInstances>(),
    action::<instances::StopInstances>(),
    action::<instances::TerminateInstances>(),
    action::<keypairs::CreateKeyPair>(),
    action::<keypairs::DeleteKeyPair>(),
    listing::<keypairs::DescribeKeyPairs>(),
    action::<keypairs::ImportKeyPair>(),
    listing::<network_interfaces::DescribeNetworkInterfaces>(),
    action::<placement_groups::CreatePlacementGroup>(),
    action::<placement_groups::DeletePlacementGroup>(),
    listing::<placement_groups::DescribePlacementGroups>(),
    action::<regions::DescribeAccountAttributes>(),
    listing::<regions::DescribeAvailabilityZones>(),
    listing::<regions::DescribeRegions>(),
    action::<security_groups::AuthorizeSecurityGroupEgress>(),
    action::<security_groups::AuthorizeSecurityGroupIngress>(),
    action::<security_groups::CreateSecurityGroup>(),
    action::<security_groups::DeleteSecurityGroup>(),
    listing::<security_groups::DescribeSecurityGroupRules>(),
    listing::<security_groups::DescribeSecurityGroups>(),
    action::<security_groups::RevokeSecurityGroupEgress>(),
    action::<security_groups::RevokeSecurityGroupIngress>(),
    action::<tags::CreateTags>(),
    action::<tags::DeleteTags>(),
    listing::<tags::DescribeTags>(),
    listing::<vpcs::DescribeSubnets>(),
    listing::<vpcs::DescribeVpcs>(),
];

/// The action of this name.
pub(crate) fn find(name: &str) -> Option<&'static TableEntry> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static TableEntry>> =
        LazyLock::new(|| ENTRIES.iter().map(|row| (row.name, row)).collect());
    BY_NAME.get(name).copied()
}

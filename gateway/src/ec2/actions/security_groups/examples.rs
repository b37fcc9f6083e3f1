//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example(
        "AuthorizeSecurityGroupEgress",
        "GroupId={group}&IpPermissions.1.IpProtocol=tcp&\
         IpPermissions.1.FromPort=22&IpPermissions.1.ToPort=22&IpPermissions.1.IpRanges.1.CidrIp=11.0.0.0/8",
    ),
    example(
        "AuthorizeSecurityGroupIngress",
        "GroupId={group}&IpPermissions.1.IpProtocol=tcp&\
         IpPermissions.1.FromPort=22&IpPermissions.1.ToPort=22&IpPermissions.1.IpRanges.1.CidrIp=11.0.0.0/8",
    ),
    example(
        "CreateSecurityGroup",
        "GroupName=new&GroupDescription=d&VpcId={vpc}",
    ),
    example("DeleteSecurityGroup", "GroupId={group}"),
    example("DescribeSecurityGroupRules", "SecurityGroupRuleId.1={rule}"),
    example("DescribeSecurityGroups", "GroupId.1={group}"),
    example(
        "RevokeSecurityGroupEgress",
        "GroupId={group}&IpPermissions.1.IpProtocol=-1&\
         IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0",
    ),
    example(
        "RevokeSecurityGroupIngress",
        "GroupId={group}&SecurityGroupRuleId.1={rule}",
    ),
];

//! Ids of every kind in every operation: any 8 or 17 digits are well-formed, what is not there is not found, and
//! the sentence has the id as it was sent.

use cumulet_backend::api::audit_log;
use cumulet_domain::ResourceKind;
use cumulet_wire::ec2::operations;

use super::*;

/// Digits of every form: this cloud's, those of others, and the old ones.
const FORMS: [&str; 4] = [
    "0123456789abcdef0",
    "1234567890abcdef0",
    "fedcba98765432100",
    "1a2b3c4d",
];

/// Every call that takes an id, up to the id; what it is an id of; the code where that is not there.
const CALLS: &[(&str, &str, &str)] = &[
    (
        "DescribeInstances&InstanceId.1=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    (
        "DescribeInstanceStatus&InstanceId.1=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    (
        "DescribeInstanceAttribute&Attribute=userData&InstanceId=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    (
        "ModifyInstanceAttribute&DisableApiStop.Value=true&InstanceId=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    (
        "ModifyInstanceAttribute&BlockDeviceMapping.1.DeviceName=/dev/vda&InstanceId=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    (
        "ModifyInstanceMetadataOptions&HttpTokens=required&InstanceId=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    ("StartInstances&InstanceId.1=", "i", "InvalidInstanceID.NotFound"),
    ("StopInstances&InstanceId.1=", "i", "InvalidInstanceID.NotFound"),
    ("RebootInstances&InstanceId.1=", "i", "InvalidInstanceID.NotFound"),
    (
        "TerminateInstances&InstanceId.1=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    ("GetConsoleOutput&InstanceId=", "i", "InvalidInstanceID.NotFound"),
    (
        "GetConsoleOutput&InstanceId.1=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    (
        "GetConsoleScreenshot&InstanceId=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    (
        "RunInstances&MinCount=1&MaxCount=1&ImageId=",
        "ami",
        "InvalidAMIID.NotFound",
    ),
    (
        "RunInstances&ImageId={image}&MinCount=1&MaxCount=1&SubnetId=",
        "subnet",
        "InvalidSubnetID.NotFound",
    ),
    (
        "RunInstances&ImageId={image}&MinCount=1&MaxCount=1&SecurityGroupId.1=",
        "sg",
        "InvalidGroup.NotFound",
    ),
    ("DescribeImages&ImageId.1=", "ami", "InvalidAMIID.NotFound"),
    ("DeregisterImage&ImageId=", "ami", "InvalidAMIID.NotFound"),
    ("DescribeKeyPairs&KeyPairId.1=", "key", "InvalidKeyPair.NotFound"),
    (
        "DescribePlacementGroups&GroupId.1=",
        "pg",
        "InvalidPlacementGroup.Unknown",
    ),
    ("DescribeSecurityGroups&GroupId.1=", "sg", "InvalidGroup.NotFound"),
    ("DeleteSecurityGroup&GroupId=", "sg", "InvalidGroup.NotFound"),
    (
        "DescribeSecurityGroupRules&SecurityGroupRuleId.1=",
        "sgr",
        "InvalidSecurityGroupRuleId.NotFound",
    ),
    ("DescribeVpcs&VpcId.1=", "vpc", "InvalidVpcID.NotFound"),
    (
        "DescribeSubnets&SubnetId.1=",
        "subnet",
        "InvalidSubnetID.NotFound",
    ),
    (
        "CreateSecurityGroup&GroupName=x&GroupDescription=x&VpcId=",
        "vpc",
        "InvalidVpcID.NotFound",
    ),
    (
        "DescribeNetworkInterfaces&NetworkInterfaceId.1=",
        "eni",
        "InvalidNetworkInterfaceID.NotFound",
    ),
    (
        "CreateTags&Tag.1.Key=a&ResourceId.1=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    (
        "DeleteTags&Tag.1.Key=a&ResourceId.1=",
        "i",
        "InvalidInstanceID.NotFound",
    ),
    (
        "AuthorizeSecurityGroupIngress&IpPermissions.1.IpProtocol=-1&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8&GroupId=",
        "sg",
        "InvalidGroup.NotFound",
    ),
    (
        "AuthorizeSecurityGroupEgress&IpPermissions.1.IpProtocol=-1&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8&GroupId=",
        "sg",
        "InvalidGroup.NotFound",
    ),
    (
        "RevokeSecurityGroupIngress&IpPermissions.1.IpProtocol=-1&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8&GroupId=",
        "sg",
        "InvalidGroup.NotFound",
    ),
    (
        "RevokeSecurityGroupEgress&IpPermissions.1.IpProtocol=-1&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8&GroupId=",
        "sg",
        "InvalidGroup.NotFound",
    ),
];

/// Operations that name nothing by an id, or for which it is no error that it is not there.
const WITHOUT: &[&str] = &[
    "CreateKeyPair",
    "CreatePlacementGroup",
    "DeleteKeyPair",
    "DeletePlacementGroup",
    "DescribeAccountAttributes",
    "DescribeAvailabilityZones",
    "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes",
    "DescribeRegions",
    "DescribeTags",
    "ImportKeyPair",
];

#[tokio::test]
async fn well_formed_ids_are_not_found_and_are_repeated_as_they_came() {
    for info in operations::OPERATIONS {
        let tried = CALLS
            .iter()
            .any(|call| call.0.split('&').next() == Some(info.name));
        assert!(
            tried != WITHOUT.contains(&info.name),
            "{} is in one of the lists",
            info.name
        );
    }
    let world = World::new().await;
    for (call, prefix, code) in CALLS {
        for digits in FORMS {
            let id = format!("{prefix}-{digits}");
            let refusal = world.try_as(&world.who, &format!("Action={call}{id}")).await;
            let refusal = refusal.err().unwrap_or_else(|| panic!("{call}{id} was accepted"));
            assert_eq!(refusal.code, *code, "{call}{id}: {}", refusal.message);
            assert!(refusal.message.contains(&id), "{call}{id}: {}", refusal.message);
        }
        for digits in [
            "",
            "xyz",
            "0123456789abcdef",
            "0123456789ABCDEF0",
            "0123456789abcdef01",
        ] {
            let id = format!("{prefix}-{digits}");
            let code = world.refused(&format!("Action={call}{id}")).await;
            assert!(code.ends_with(".Malformed"), "{call}{id}: {code}");
        }
    }
}

#[tokio::test]
async fn tags_of_every_kind_of_resource() {
    let world = World::new().await;
    for kind in ResourceKind::ALL {
        for digits in FORMS {
            let id = format!("{}-{digits}", kind.prefix());
            let call = format!("Action=CreateTags&Tag.1.Key=a&ResourceId.1={id}");
            let refusal = world.try_as(&world.who, &call).await.unwrap_err();
            assert!(!refusal.code.ends_with(".Malformed"), "{id}: {}", refusal.code);
            assert!(refusal.message.contains(&id), "{id}: {}", refusal.message);
        }
    }
    let several =
        "Action=CreateTags&Tag.1.Key=a&ResourceId.1=i-1234567890abcdef0&ResourceId.2=i-2234567890abcdef0";
    let refusal = world.try_as(&world.who, several).await.unwrap_err();
    assert_eq!(
        refusal.message,
        "The instance IDs 'i-1234567890abcdef0, i-2234567890abcdef0' do not exist"
    );
}

/// Whatever a client writes in front of or behind an id's dash is no id, and no resource of the audit log.
#[tokio::test]
async fn only_ids_are_resources_in_the_audit_log() {
    let world = World::new().await;
    let fine = "i-0123456789abcdef0";
    let long = format!("i-{}", "a".repeat(60));
    for wrong in [
        "i-<script>alert(1)</script>",
        "i-",
        "i-0123456789abcdef",
        "i-0123456789ABCDEF0",
        "i-0123456789abcdef0,vpc-0123456789abcdef0",
        "vol-my disk",
        "sg-1",
        "eni-attach-x",
        &long,
    ] {
        for call in [
            "TerminateInstances&InstanceId",
            "CreateTags&Tag.1.Key=a&ResourceId",
        ] {
            world.advance(120);
            let body = format!(
                "Action={call}.1={fine}&{}.2={wrong}",
                call.rsplit('&').next().unwrap()
            );
            world.refused(&body).await;
            let log = audit_log::list(&world.cloud.parts(), world.who.account, 1)
                .await
                .unwrap();
            assert_eq!(log[0].resource.as_deref(), Some(fine), "{body}");
        }
    }
}

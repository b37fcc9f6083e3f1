//! EC2's words for the kinds of resources, a row a kind. Its spellings are irregular: what differs from the other
//! kinds is copied from the API reference, and what is left out is as for any kind.

use cumulet_domain::ResourceKind;

/// The codes and nouns of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Codes {
    pub(super) not_found: &'static str,
    pub(super) malformed: &'static str,
    pub(super) duplicate: &'static str,
    pub(super) in_use: &'static str,
    /// The parameter that ids of the kind are given in.
    pub(super) parameter: &'static str,
    /// What the sentences call it.
    pub(super) noun: &'static str,
}

/// A kind that is like any other.
const ANY: Codes = Codes {
    not_found: "InvalidID",
    malformed: "InvalidID",
    duplicate: "ResourceAlreadyExists",
    in_use: "DependencyViolation",
    parameter: "ResourceId",
    noun: "",
};

macro_rules! codes {
    ($($kind:ident { $($word:ident: $text:literal),* $(,)? })*) => {
        /// The words for a kind.
        pub(super) const fn codes(kind: ResourceKind) -> Codes {
            match kind {
                $(ResourceKind::$kind => {
                    let any = Codes { noun: kind.resource_type(), ..ANY };
                    Codes { $($word: $text,)* ..any }
                })*
            }
        }
    };
}

codes! {
    Instance {
        not_found: "InvalidInstanceID.NotFound", malformed: "InvalidInstanceID.Malformed",
        parameter: "InstanceId", noun: "instance ID",
    }
    Reservation { not_found: "InvalidReservationID.NotFound", malformed: "InvalidReservationID.Malformed" }
    Image {
        not_found: "InvalidAMIID.NotFound", malformed: "InvalidAMIID.Malformed", duplicate: "InvalidAMIName.Duplicate",
        parameter: "ImageId", noun: "image ID",
    }
    Volume {
        not_found: "InvalidVolume.NotFound", malformed: "InvalidVolumeID.Malformed", in_use: "VolumeInUse",
        parameter: "VolumeId",
    }
    Snapshot {
        not_found: "InvalidSnapshot.NotFound", malformed: "InvalidSnapshotID.Malformed",
        in_use: "InvalidSnapshot.InUse",
    }
    SecurityGroup {
        not_found: "InvalidGroup.NotFound", malformed: "InvalidGroupId.Malformed", duplicate: "InvalidGroup.Duplicate",
        parameter: "GroupId", noun: "security group",
    }
    SecurityGroupRule {
        not_found: "InvalidSecurityGroupRuleId.NotFound", malformed: "InvalidSecurityGroupRuleId.Malformed",
        parameter: "SecurityGroupRuleId", noun: "security group rule ID",
    }
    Vpc {
        not_found: "InvalidVpcID.NotFound", malformed: "InvalidVpcID.Malformed",
        parameter: "VpcId", noun: "vpc ID",
    }
    Subnet {
        not_found: "InvalidSubnetID.NotFound", malformed: "InvalidSubnetID.Malformed",
        parameter: "SubnetId", noun: "subnet ID",
    }
    NetworkInterface {
        not_found: "InvalidNetworkInterfaceID.NotFound", malformed: "InvalidNetworkInterfaceID.Malformed",
        in_use: "InvalidNetworkInterface.InUse", parameter: "NetworkInterfaceId", noun: "networkInterface ID",
    }
    InterfaceAttachment { not_found: "InvalidAttachmentID.NotFound", malformed: "InvalidAttachmentID.Malformed" }
    KeyPair {
        not_found: "InvalidKeyPair.NotFound", malformed: "InvalidKeyPair.Malformed",
        duplicate: "InvalidKeyPair.Duplicate", parameter: "KeyPairId", noun: "key pair",
    }
    RouteTable { not_found: "InvalidRouteTableID.NotFound", malformed: "InvalidRouteTableID.Malformed" }
    InternetGateway { not_found: "InvalidInternetGatewayID.NotFound", malformed: "InvalidInternetGatewayID.Malformed" }
    NetworkAcl { not_found: "InvalidNetworkAclID.NotFound", malformed: "InvalidNetworkAclID.Malformed" }
    DhcpOptions { not_found: "InvalidDhcpOptionID.NotFound", malformed: "InvalidDhcpOptionsID.Malformed" }
    Address { not_found: "InvalidAllocationID.NotFound", malformed: "InvalidAllocationID.Malformed" }
    Operation {}
    PlacementGroup {
        not_found: "InvalidPlacementGroup.Unknown", malformed: "InvalidPlacementGroupId.Malformed",
        duplicate: "InvalidPlacementGroup.Duplicate", in_use: "InvalidPlacementGroup.InUse", parameter: "GroupId",
    }
    Aggregate {}
}

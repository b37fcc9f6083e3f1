//! Permissions, by the names that IAM has for them: one list, which a test of the gateway compares with the manifest.

/// A permission: what a call needs, and a policy gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    name: &'static str,
    writes: bool,
}

impl Permission {
    /// What the operator does.
    pub(super) const OPERATE: Permission = Permission::new("cumulet:Operate", true);

    /// The permission that the manifest has for an operation: it is refused by it before the request is decoded. The
    /// functions behind it ask for those below.
    pub const fn new(name: &'static str, writes: bool) -> Permission {
        Permission { name, writes }
    }

    /// Its name, for instance `ec2:RunInstances`.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Whether it changes anything.
    pub const fn writes(self) -> bool {
        self.writes
    }
}

macro_rules! permissions {
    ($($service:literal { $($access:ident $constant:ident $operation:literal;)* })*) => {
        #[allow(missing_docs)] // each is its operation's
        impl Permission {
            $($(pub const $constant: Permission =
                Permission::new(concat!($service, ":", $operation), permissions!(@ $access));)*)*

            /// Every permission of an account's principals.
            pub const ALL: &[Permission] = &[$($(Permission::$constant,)*)*];
        }
    };
    (@ read) => { false };
    (@ write) => { true };
}

permissions! {
    "ec2" {
        write ATTACH_VOLUME "AttachVolume";
        write AUTHORIZE_SECURITY_GROUP_EGRESS "AuthorizeSecurityGroupEgress";
        write AUTHORIZE_SECURITY_GROUP_INGRESS "AuthorizeSecurityGroupIngress";
        write COPY_IMAGE "CopyImage";
        write COPY_SNAPSHOT "CopySnapshot";
        write COPY_VOLUMES "CopyVolumes";
        write CREATE_IMAGE "CreateImage";
        write CREATE_KEY_PAIR "CreateKeyPair";
        write CREATE_PLACEMENT_GROUP "CreatePlacementGroup";
        write CREATE_SECURITY_GROUP "CreateSecurityGroup";
        write CREATE_SNAPSHOT "CreateSnapshot";
        write CREATE_SNAPSHOTS "CreateSnapshots";
        write CREATE_TAGS "CreateTags";
        write CREATE_VOLUME "CreateVolume";
        write DELETE_KEY_PAIR "DeleteKeyPair";
        write DELETE_PLACEMENT_GROUP "DeletePlacementGroup";
        write DELETE_SECURITY_GROUP "DeleteSecurityGroup";
        write DELETE_SNAPSHOT "DeleteSnapshot";
        write DELETE_TAGS "DeleteTags";
        write DELETE_VOLUME "DeleteVolume";
        write DEREGISTER_IMAGE "DeregisterImage";
        read DESCRIBE_ACCOUNT_ATTRIBUTES "DescribeAccountAttributes";
        read DESCRIBE_AVAILABILITY_ZONES "DescribeAvailabilityZones";
        read DESCRIBE_IMAGE_ATTRIBUTE "DescribeImageAttribute";
        read DESCRIBE_IMAGES "DescribeImages";
        read DESCRIBE_INSTANCE_ATTRIBUTE "DescribeInstanceAttribute";
        read DESCRIBE_INSTANCE_STATUS "DescribeInstanceStatus";
        read DESCRIBE_INSTANCE_TYPE_OFFERINGS "DescribeInstanceTypeOfferings";
        read DESCRIBE_INSTANCE_TYPES "DescribeInstanceTypes";
        read DESCRIBE_INSTANCES "DescribeInstances";
        read DESCRIBE_KEY_PAIRS "DescribeKeyPairs";
        read DESCRIBE_NETWORK_INTERFACES "DescribeNetworkInterfaces";
        read DESCRIBE_PLACEMENT_GROUPS "DescribePlacementGroups";
        read DESCRIBE_REGIONS "DescribeRegions";
        read DESCRIBE_SECURITY_GROUP_RULES "DescribeSecurityGroupRules";
        read DESCRIBE_SECURITY_GROUPS "DescribeSecurityGroups";
        read DESCRIBE_SNAPSHOT_ATTRIBUTE "DescribeSnapshotAttribute";
        read DESCRIBE_SNAPSHOTS "DescribeSnapshots";
        read DESCRIBE_SUBNETS "DescribeSubnets";
        read DESCRIBE_TAGS "DescribeTags";
        read DESCRIBE_VOLUME_ATTRIBUTE "DescribeVolumeAttribute";
        read DESCRIBE_VOLUME_STATUS "DescribeVolumeStatus";
        read DESCRIBE_VOLUMES "DescribeVolumes";
        read DESCRIBE_VOLUMES_MODIFICATIONS "DescribeVolumesModifications";
        read DESCRIBE_VPCS "DescribeVpcs";
        write DETACH_VOLUME "DetachVolume";
        write DISABLE_EBS_ENCRYPTION_BY_DEFAULT "DisableEbsEncryptionByDefault";
        write DISABLE_IMAGE "DisableImage";
        write DISABLE_IMAGE_DEPRECATION "DisableImageDeprecation";
        write DISABLE_IMAGE_DEREGISTRATION_PROTECTION "DisableImageDeregistrationProtection";
        write ENABLE_EBS_ENCRYPTION_BY_DEFAULT "EnableEbsEncryptionByDefault";
        write ENABLE_IMAGE "EnableImage";
        write ENABLE_IMAGE_DEPRECATION "EnableImageDeprecation";
        write ENABLE_IMAGE_DEREGISTRATION_PROTECTION "EnableImageDeregistrationProtection";
        write ENABLE_VOLUME_IO "EnableVolumeIO";
        read GET_CONSOLE_OUTPUT "GetConsoleOutput";
        read GET_CONSOLE_SCREENSHOT "GetConsoleScreenshot";
        read GET_EBS_DEFAULT_KMS_KEY_ID "GetEbsDefaultKmsKeyId";
        read GET_EBS_ENCRYPTION_BY_DEFAULT "GetEbsEncryptionByDefault";
        write IMPORT_KEY_PAIR "ImportKeyPair";
        write MODIFY_EBS_DEFAULT_KMS_KEY_ID "ModifyEbsDefaultKmsKeyId";
        write MODIFY_IMAGE_ATTRIBUTE "ModifyImageAttribute";
        write MODIFY_INSTANCE_ATTRIBUTE "ModifyInstanceAttribute";
        write MODIFY_INSTANCE_METADATA_OPTIONS "ModifyInstanceMetadataOptions";
        write MODIFY_SNAPSHOT_ATTRIBUTE "ModifySnapshotAttribute";
        write MODIFY_VOLUME "ModifyVolume";
        write MODIFY_VOLUME_ATTRIBUTE "ModifyVolumeAttribute";
        write REBOOT_INSTANCES "RebootInstances";
        write REGISTER_IMAGE "RegisterImage";
        write RESET_EBS_DEFAULT_KMS_KEY_ID "ResetEbsDefaultKmsKeyId";
        write RESET_IMAGE_ATTRIBUTE "ResetImageAttribute";
        write RESET_SNAPSHOT_ATTRIBUTE "ResetSnapshotAttribute";
        write REVOKE_SECURITY_GROUP_EGRESS "RevokeSecurityGroupEgress";
        write REVOKE_SECURITY_GROUP_INGRESS "RevokeSecurityGroupIngress";
        write RUN_INSTANCES "RunInstances";
        write START_INSTANCES "StartInstances";
        write STOP_INSTANCES "StopInstances";
        write TERMINATE_INSTANCES "TerminateInstances";
    }
    "iam" {
        read GET_USER "GetUser";
    }
    "servicequotas" {
        read GET_SERVICE_QUOTA "GetServiceQuota";
        read LIST_SERVICE_QUOTAS "ListServiceQuotas";
        read LIST_SERVICES "ListServices";
    }
    "ssm" {
        read GET_PARAMETER "GetParameter";
        read GET_PARAMETERS "GetParameters";
        read GET_PARAMETERS_BY_PATH "GetParametersByPath";
    }
}

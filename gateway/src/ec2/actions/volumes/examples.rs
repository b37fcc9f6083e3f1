//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example(
        "CreateVolume",
        "AvailabilityZone=us-east-1a&Size=8&VolumeType=gp3&Iops=4000&Throughput=200&Encrypted=true&\
         KmsKeyId=alias/aws/ebs",
    ),
    example(
        "CopyVolumes",
        "SourceVolumeId={attached}&Size=8&VolumeType=gp3&Iops=4000&Throughput=200&Encrypted=true&\
         KmsKeyId=alias/aws/ebs",
    ),
    example("DescribeVolumes", "VolumeId.1={volume}"),
    example("DeleteVolume", "VolumeId={volume}"),
    example(
        "AttachVolume",
        "VolumeId={volume}&InstanceId={stopped}&Device=/dev/sdf",
    ),
    example(
        "DetachVolume",
        "VolumeId={attached}&InstanceId={instance}&Device=/dev/sdf",
    ),
    example(
        "ModifyVolume",
        "VolumeId={volume}&Size=9&VolumeType=gp3&Iops=4000",
    ),
    example("DescribeVolumesModifications", "VolumeId.1={modified}"),
    example("DescribeVolumeStatus", "VolumeId.1={volume}"),
    example(
        "DescribeVolumeAttribute",
        "VolumeId={volume}&Attribute=autoEnableIO",
    ),
    example(
        "ModifyVolumeAttribute",
        "VolumeId={volume}&AutoEnableIO.Value=true",
    ),
    example("EnableVolumeIO", "VolumeId={attached}"),
    example("GetEbsEncryptionByDefault", ""),
    example("EnableEbsEncryptionByDefault", ""),
    example("DisableEbsEncryptionByDefault", ""),
    example("GetEbsDefaultKmsKeyId", ""),
    example("ModifyEbsDefaultKmsKeyId", "KmsKeyId=alias/aws/ebs"),
    example("ResetEbsDefaultKmsKeyId", ""),
];

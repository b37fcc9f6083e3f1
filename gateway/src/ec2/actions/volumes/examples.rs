//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example(
        "CreateVolume",
        "AvailabilityZone=us-east-1a&Size=8&VolumeType=gp3&Iops=4000&Throughput=200",
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
];

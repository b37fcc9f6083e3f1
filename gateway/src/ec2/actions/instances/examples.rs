//! An example of each operation of the family.

use crate::rpc::example::{Example, by_host, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example(
        "DescribeInstanceAttribute",
        "InstanceId={instance}&Attribute=userData",
    ),
    example("DescribeInstanceStatus", "InstanceId.1={instance}"),
    example("DescribeInstanceTypeOfferings", ""),
    example("DescribeInstanceTypes", ""),
    example("DescribeInstances", "InstanceId.1={instance}"),
    by_host("GetConsoleOutput", "InstanceId={instance}"),
    by_host("GetConsoleScreenshot", "InstanceId={instance}"),
    example(
        "ModifyInstanceAttribute",
        "InstanceId={instance}&DisableApiStop.Value=true",
    ),
    example(
        "ModifyInstanceMetadataOptions",
        "InstanceId={instance}&HttpTokens=required",
    ),
    example("RebootInstances", "InstanceId.1={instance}"),
    example(
        "RunInstances",
        "ImageId={image}&MinCount=1&MaxCount=2&InstanceType=t3.nano&\
         SubnetId={subnet}&SecurityGroupId.1={group}&KeyName=k&\
         BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.SnapshotId={snapshot}&\
         BlockDeviceMapping.2.DeviceName=/dev/sdg&BlockDeviceMapping.2.Ebs.VolumeSize=1&\
         BlockDeviceMapping.2.Ebs.DeleteOnTermination=false",
    ),
    example("StartInstances", "InstanceId.1={stopped}"),
    example("StopInstances", "InstanceId.1={instance}"),
    example("TerminateInstances", "InstanceId.1={instance}"),
];

//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example(
        "CopyImage",
        "SourceRegion=us-east-1&SourceImageId={made-image}&Name=copied",
    ),
    example("CreateImage", "InstanceId={stopped}&Name=of-an-instance"),
    example("DeregisterImage", "ImageId={image}"),
    example(
        "DescribeImageAttribute",
        "ImageId={made-image}&Attribute=launchPermission",
    ),
    example("DescribeImages", "ImageId.1={image}&ImageId.2={made-image}"),
    example("DisableImage", "ImageId={made-image}"),
    example("DisableImageDeprecation", "ImageId={made-image}"),
    example("DisableImageDeregistrationProtection", "ImageId={made-image}"),
    example("EnableImage", "ImageId={made-image}"),
    example(
        "EnableImageDeprecation",
        "ImageId={made-image}&DeprecateAt=2027-11-21T00:00:00Z",
    ),
    example("EnableImageDeregistrationProtection", "ImageId={made-image}"),
    example(
        "ModifyImageAttribute",
        "ImageId={made-image}&LaunchPermission.Add.1.UserId=123456789012",
    ),
    example(
        "RegisterImage",
        "Name=registered&RootDeviceName=/dev/xvda&BlockDeviceMapping.1.DeviceName=/dev/xvda&\
         BlockDeviceMapping.1.Ebs.SnapshotId={snapshot}",
    ),
    example(
        "ResetImageAttribute",
        "ImageId={made-image}&Attribute=launchPermission",
    ),
];

//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example(
        "CopySnapshot",
        "SourceRegion=us-east-1&SourceSnapshotId={snapshot}",
    ),
    example("CreateSnapshot", "VolumeId={volume}&Description=before"),
    example("CreateSnapshots", "InstanceSpecification.InstanceId={instance}"),
    example("DescribeSnapshots", "SnapshotId.1={snapshot}"),
    example("DeleteSnapshot", "SnapshotId={snapshot}"),
    example(
        "DescribeSnapshotAttribute",
        "SnapshotId={snapshot}&Attribute=createVolumePermission",
    ),
    example(
        "ModifySnapshotAttribute",
        "SnapshotId={snapshot}&CreateVolumePermission.Add.1.UserId=123456789012",
    ),
    example(
        "ResetSnapshotAttribute",
        "SnapshotId={snapshot}&Attribute=createVolumePermission",
    ),
];

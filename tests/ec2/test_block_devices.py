"""Disks that a launch names: each instance has its own, and they end with it or outlive it, as was said."""

import pytest

from harness import volumes
from harness.cloud import Account
from harness.ec2 import FAST, instance, refused, running, wait


def disk(device: str, **ebs) -> dict:
    return {"DeviceName": device, "Ebs": ebs}


def mapped(ec2, id: str) -> dict[str, dict]:
    """What an instance has at each of its devices."""
    return {m["DeviceName"]: m["Ebs"] for m in instance(ec2, id)["BlockDeviceMappings"]}


@pytest.mark.roles
def test_instances_are_launched_with_volumes_of_their_own(account: Account, ec2):
    source = volumes.create(account, 2)
    snapshot = ec2.create_snapshot(VolumeId=source)["SnapshotId"]
    volumes.wait_completed(account, snapshot)
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "of", "Value": "launch"}]}]
    ids = running(
        account,
        2,
        BlockDeviceMappings=[
            disk("/dev/sdf", VolumeSize=1, VolumeType="gp3", Iops=3000, Throughput=200),
            disk("/dev/sdg", SnapshotId=snapshot, DeleteOnTermination=False),
            {"DeviceName": "/dev/sdh", "VirtualName": "ephemeral0"},
        ],
        TagSpecifications=tags,
    )
    seen = {id: mapped(ec2, id) for id in ids}
    for devices in seen.values():
        assert sorted(devices)[:2] == ["/dev/sdf", "/dev/sdg"] and len(devices) == 3
        assert {ebs["Status"] for ebs in devices.values()} == {"attached"}
        assert (devices["/dev/sdf"]["DeleteOnTermination"], devices["/dev/sdg"]["DeleteOnTermination"]) == (True, False)
    tagged = ec2.describe_volumes(Filters=[{"Name": "tag:of", "Values": ["launch"]}])["Volumes"]
    assert len({volume["VolumeId"] for volume in tagged}) == 6, "each instance has its own, and its root's"
    ends, stays = (volumes.describe(account, seen[ids[0]][device]["VolumeId"]) for device in ("/dev/sdf", "/dev/sdg"))
    assert (ends["Size"], ends["VolumeType"], ends["Throughput"], ends["State"]) == (1, "gp3", 200, "in-use")
    assert (stays["Size"], stays["SnapshotId"]) == (2, snapshot)

    # What was said of its end is said anew.
    one, other = ids
    for id, device, value in ((one, "/dev/sdg", True), (other, "/dev/sdf", False)):
        change = [disk(device, DeleteOnTermination=value)]
        ec2.modify_instance_attribute(InstanceId=id, BlockDeviceMappings=change)
        shown = ec2.describe_instance_attribute(InstanceId=id, Attribute="blockDeviceMapping")
        (said,) = [m["Ebs"] for m in shown["BlockDeviceMappings"] if m["DeviceName"] == device]
        assert said["DeleteOnTermination"] is value
    ec2.terminate_instances(InstanceIds=ids)
    wait(account, ids, "terminated")
    for device in ("/dev/sdf", "/dev/sdg"):
        volumes.wait_gone(account, seen[one][device]["VolumeId"])
    for device in ("/dev/sdf", "/dev/sdg"):
        volume = seen[other][device]["VolumeId"]
        assert volumes.describe(account, volume)["State"] == "available"
        ec2.delete_volume(VolumeId=volume)
        ec2.get_waiter("volume_deleted").wait(VolumeIds=[volume], WaiterConfig=FAST)


def test_a_launch_with_a_disk_that_can_not_be_makes_nothing(account: Account, ec2):
    """All that is refused is in process (`gateway/src/tests/block_devices.rs`)."""
    launch = {"ImageId": account.cloud.image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
    twice = [disk("/dev/sdf", VolumeSize=1), disk("/dev/sdf", VolumeSize=2)]
    with refused("InvalidBlockDeviceMapping", message="more than one block-device mapping"):
        ec2.run_instances(BlockDeviceMappings=twice, **launch)
    many = [disk(f"/dev/xvd{a}{b}", VolumeSize=1) for a in "bc" for b in "abcdefghijklmn"]
    with refused("AttachmentLimitExceeded"):
        ec2.run_instances(BlockDeviceMappings=many, **launch)
    assert ec2.describe_volumes()["Volumes"] == []

"""Volumes: made, attached to an instance that runs, detached, deleted, with EC2's waiters."""

import pytest

from harness.cloud import Account, Cloud
from harness.ec2 import FAST, filters, instances, refused, run
from harness.wait import until


def until_attached(ec2, volume: str) -> None:
    def is_attached() -> bool:
        attached = [{"Name": "attachment.status", "Values": ["attached"]}, *filters(volume_id=[volume])]
        return bool(ec2.describe_volumes(Filters=attached)["Volumes"])

    until(is_attached, "the volume is attached")


@pytest.mark.roles
def test_a_volume_outlives_its_attachment(account: Account, ec2):
    made = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, VolumeType="gp3")
    assert (made["State"], made["Size"], made["Iops"], made["Throughput"]) == ("creating", 1, 3000, 125)
    volume = made["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=FAST)
    run(account)
    (instance,) = instances(ec2)
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance["InstanceId"]], WaiterConfig=FAST)
    where = {"InstanceId": instance["InstanceId"], "Device": "/dev/xvdaa"}
    assert ec2.attach_volume(VolumeId=volume, **where)["State"] == "attaching"
    with refused("VolumeInUse"):
        ec2.delete_volume(VolumeId=volume)
    until_attached(ec2, volume)
    (shown,) = instances(ec2)
    devices = [disk["DeviceName"] for disk in shown["BlockDeviceMappings"]]
    assert devices[1:] == ["/dev/xvdaa"]
    assert ec2.detach_volume(VolumeId=volume)["State"] == "detaching"
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=FAST)
    ec2.delete_volume(VolumeId=volume)
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[volume], WaiterConfig=FAST)


@pytest.mark.roles
def test_what_newer_messages_say_comes_to_hosts(account: Account, ec2):
    """Disks that are encrypted, at launch and later, and a root that outlives its instance: messages that older programs
    would misread, and this one must not."""
    root = {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "DeleteOnTermination": False}}
    data = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "Encrypted": True, "DeleteOnTermination": True}}
    (id,) = run(account, BlockDeviceMappings=[root, data])
    ec2.get_waiter("instance_running").wait(InstanceIds=[id], WaiterConfig=FAST)
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, Encrypted=True)["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=FAST)
    ec2.attach_volume(VolumeId=volume, InstanceId=id, Device="/dev/sdg")
    until_attached(ec2, volume)
    (shown,) = instances(ec2, [id])
    disks = {disk["DeviceName"]: disk["Ebs"] for disk in shown["BlockDeviceMappings"]}
    kept, ends = disks["/dev/xvda"], disks["/dev/sdf"]
    assert (kept["DeleteOnTermination"], ends["DeleteOnTermination"]) == (False, True)
    ec2.terminate_instances(InstanceIds=[id])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[id], WaiterConfig=FAST)
    ec2.get_waiter("volume_available").wait(VolumeIds=[kept["VolumeId"], volume], WaiterConfig=FAST)
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[ends["VolumeId"]], WaiterConfig=FAST)
    for free in (kept["VolumeId"], volume):
        ec2.delete_volume(VolumeId=free)
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[kept["VolumeId"], volume], WaiterConfig=FAST)


def test_statuses_attributes_and_modifications_are_as_the_model_says(account: Account, ec2):
    """Each answer is compared with the model; what is said is in process (`gateway/src/tests/volumes.rs`)."""
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    (status,) = ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"]
    names = [detail["Name"] for detail in status["VolumeStatus"]["Details"]]
    assert (status["VolumeStatus"]["Status"], names) == ("ok", ["io-enabled", "io-performance"])
    ec2.modify_volume_attribute(VolumeId=volume, AutoEnableIO={"Value": True})
    shown = ec2.describe_volume_attribute(VolumeId=volume, Attribute="autoEnableIO")
    assert shown["AutoEnableIO"] == {"Value": True}
    ec2.enable_volume_io(VolumeId=volume)
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    assert ec2.enable_ebs_encryption_by_default()["EbsEncryptionByDefault"] is True
    assert ec2.get_ebs_encryption_by_default()["SseType"] == "sse-kms"
    assert ec2.disable_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    key = ec2.get_ebs_default_kms_key_id()["KmsKeyId"]
    assert ec2.modify_ebs_default_kms_key_id(KmsKeyId="alias/aws/ebs")["KmsKeyId"] == key
    assert ec2.reset_ebs_default_kms_key_id()["KmsKeyId"] == key
    sealed = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, Encrypted=True, KmsKeyId=key)
    assert (sealed["Encrypted"], sealed["KmsKeyId"]) == (True, key)
    with refused("InvalidVolumeModification.NotFound"):
        ec2.describe_volumes_modifications(VolumeIds=[volume])
    begun = ec2.modify_volume(VolumeId=volume, Size=2, VolumeType="gp3")["VolumeModification"]
    assert (begun["ModificationState"], begun["TargetSize"]) == ("modifying", 2)

    def done() -> bool:
        (last,) = ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"]
        return last["ModificationState"] == "completed" and last["Progress"] == 100

    until(done, "the volume is modified")
    (shown,) = ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    assert (shown["Size"], shown["VolumeType"]) == (2, "gp3")
    (copy,) = ec2.copy_volumes(SourceVolumeId=volume, VolumeType="gp3")["Volumes"]
    assert (copy["State"], copy["Size"], copy["SourceVolumeId"]) == ("creating", 2, volume)
    ec2.get_waiter("volume_available").wait(VolumeIds=[copy["VolumeId"]], WaiterConfig=FAST)
    ec2.delete_volume(VolumeId=copy["VolumeId"])
    ec2.delete_volume(VolumeId=volume)


def test_the_command_line_asks_for_encryption(fake_cloud: Cloud, account: Account):
    def said(call: str, *more: str):
        return fake_cloud.aws("ec2", call, *more, key=account.key)

    assert said("enable-ebs-encryption-by-default") == {"EbsEncryptionByDefault": True}
    assert said("get-ebs-encryption-by-default") == {"EbsEncryptionByDefault": True, "SseType": "sse-kms"}
    key = said("get-ebs-default-kms-key-id")["KmsKeyId"]
    assert said("modify-ebs-default-kms-key-id", "--kms-key-id", key) == {"KmsKeyId": key}
    made = said("create-volume", "--availability-zone", "us-east-1a", "--size", "1")
    assert (made["Encrypted"], made["KmsKeyId"]) == (True, key)
    assert said("reset-ebs-default-kms-key-id") == {"KmsKeyId": key}
    assert said("disable-ebs-encryption-by-default") == {"EbsEncryptionByDefault": False}

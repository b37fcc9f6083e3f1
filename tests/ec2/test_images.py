"""Images: own, public and private, imported and made of snapshots, to their deregistration."""

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.cloud import Account, Cloud
from harness.ec2 import FAST, filters, instance, refused, run, running


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "3G"], check=True)
    return path


@pytest.mark.roles
def test_import_describe_deregister(fake_cloud: Cloud, account: Account, ec2, disk: Path):
    owned = ["--account", account.id]
    id = fake_cloud.run("image", "import", "--name", "mine", "--description", "a disk", "--private", *owned, str(disk))
    assert re.fullmatch(r"ami-0[0-9a-f]{16}", id)
    (seen,) = ec2.describe_images(Owners=["self"])["Images"]
    assert (seen["ImageId"], seen["Name"], seen["Description"], seen["Public"]) == (id, "mine", "a disk", False)
    assert seen["State"] == "available" and seen["OwnerId"] == account.id
    assert seen["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 3
    assert ec2.describe_images(Owners=[account.id])["Images"] == [seen]
    assert ec2.describe_images(ExecutableUsers=["self"])["Images"] == []
    made = run(account, ImageId=id)
    ec2.deregister_image(ImageId=id)
    assert ec2.describe_images(ImageIds=[id])["Images"] == []
    with refused("InvalidAMIID.Unavailable"):
        ec2.deregister_image(ImageId=id)
    with refused("InvalidAMIID.Unavailable"):
        run(account, ImageId=id)
    # An instance of it goes on and says what it was made from.
    assert instance(ec2, made[0])["ImageId"] == id


def test_private_and_foreign(fake_cloud: Cloud, account: Account, disk: Path):
    other = fake_cloud.account()
    private = fake_cloud.run("image", "import", "--name", "image-p", "--private", "--account", other.id, str(disk))
    public = fake_cloud.run("image", "import", "--name", "image-q", "--account", other.id, str(disk))
    assert [i["ImageId"] for i in account.ec2.describe_images(Owners=[other.id])["Images"]] == [public]
    for call in (
        lambda: account.ec2.describe_images(ImageIds=[private]),
        lambda: run(account, ImageId=private),
        lambda: account.ec2.deregister_image(ImageId=private),
    ):
        with refused("InvalidAMIID.NotFound"):
            call()
    with pytest.raises(Exception, match="InvalidAMIID.NotFound|UnauthorizedOperation|AuthFailure"):
        account.ec2.deregister_image(ImageId=public)
    assert len(running(account, ImageId=public)) == 1
    other.ec2.deregister_image(ImageId=public)
    assert account.ec2.describe_images(ImageIds=[public])["Images"] == []


def test_a_root_disk_is_at_least_as_large_as_its_image(fake_cloud: Cloud, account: Account, ec2, disk: Path):
    id = fake_cloud.run("image", "import", "--name", "image-r", "--account", account.id, str(disk))
    device = ec2.describe_images(ImageIds=[id])["Images"][0]["RootDeviceName"]

    def mapping(size: int) -> list[dict]:
        return [{"DeviceName": device, "Ebs": {"VolumeSize": size}}]

    with refused("InvalidBlockDeviceMapping", message="smaller than its image"):
        run(account, ImageId=id, BlockDeviceMappings=mapping(2))
    with refused("InvalidParameterValue"):
        run(account, ImageId=id, BlockDeviceMappings=mapping(0))
    run(account, ImageId=id, BlockDeviceMappings=mapping(5))
    assert "in use" in fake_cloud.execute("image", "delete", id).stderr


def test_list_and_delete_by_the_operator(fake_cloud: Cloud, account: Account, ec2, disk: Path):
    id = fake_cloud.run("image", "import", "--name", "image-s", "--format", "qcow2", "--account", account.id, str(disk))
    assert id in fake_cloud.run("image", "list")
    fake_cloud.run("image", "delete", id)
    assert ec2.describe_images(Filters=filters(image_id=[id]))["Images"] == []


def of_root(snapshot: str, **ebs) -> list[dict]:
    return [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot, **ebs}}]


def completed(ec2, **volume) -> str:
    """A snapshot of a volume that nobody has written to."""
    made = ec2.create_volume(AvailabilityZone="us-east-1a", **volume)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=made)["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig=FAST)
    ec2.delete_volume(VolumeId=made)
    return snapshot


def image(ec2, id: str, **more) -> dict:
    (found,) = ec2.describe_images(ImageIds=[id], **more)["Images"]
    return found


@pytest.mark.roles
def test_an_image_of_an_instance_and_its_copy(fake_cloud: Cloud, account: Account, ec2):
    (source,) = running(account)
    tags = [{"ResourceType": kind, "Tags": [{"Key": "of", "Value": kind}]} for kind in ("image", "snapshot")]
    more = [{"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 2, "VolumeType": "gp3"}}]
    with refused("DryRunOperation", status=412):
        ec2.create_image(InstanceId=source, Name="made", NoReboot=True, DryRun=True)
    rebooted = ec2.create_image(InstanceId=source, Name="rebooted")["ImageId"]
    ec2.get_waiter("image_available").wait(ImageIds=[rebooted], WaiterConfig=FAST)
    assert instance(ec2, source)["State"]["Name"] == "running"
    ec2.deregister_image(ImageId=rebooted, DeleteAssociatedSnapshots=True)
    made = ec2.create_image(
        InstanceId=source,
        Name="made",
        Description="words",
        NoReboot=True,
        TagSpecifications=tags,
        BlockDeviceMappings=more,
    )["ImageId"]
    ec2.get_waiter("image_available").wait(ImageIds=[made], WaiterConfig=FAST)
    seen = image(ec2, made)
    root, data = seen["BlockDeviceMappings"]
    assert (seen["SourceInstanceId"], seen["Public"], seen["RootDeviceName"]) == (source, False, root["DeviceName"])
    assert (data["DeviceName"], data["Ebs"]["VolumeSize"], "SnapshotId" in data["Ebs"]) == ("/dev/sdg", 2, False)
    assert seen["Tags"] == [{"Key": "of", "Value": "image"}]
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[root["Ebs"]["SnapshotId"]])["Snapshots"]
    assert snapshot["Description"] == f"Created by CreateImage({source}) for {made}"
    assert snapshot["Tags"] == [{"Key": "of", "Value": "snapshot"}]
    found = [{"Name": "block-device-mapping.snapshot-id", "Values": [snapshot["SnapshotId"]]}]
    assert [each["ImageId"] for each in ec2.describe_images(Filters=found)["Images"]] == [made]
    with refused("InvalidAMIName.Duplicate", message=f"AMI name made is already in use by AMI {made}"):
        ec2.create_image(InstanceId=source, Name="made", NoReboot=True)
    with refused("InvalidAMIName.Malformed"):
        ec2.create_image(InstanceId=source, Name="no?no", NoReboot=True)

    region = ec2.meta.region_name
    with refused("InvalidParameterValue", message="elsewhere"):
        ec2.copy_image(Name="copy", SourceImageId=made, SourceRegion="elsewhere")
    copied = ec2.copy_image(Name="copy", SourceImageId=made, SourceRegion=region, CopyImageTags=True)["ImageId"]
    seen = image(ec2, copied)
    assert (seen["State"], seen["SourceImageId"], seen["SourceImageRegion"]) == ("available", made, region)
    assert seen["Tags"] == [{"Key": "of", "Value": "image"}]
    used = snapshot["SnapshotId"]
    with refused("InvalidSnapshot.InUse", message=f"The snapshot {used} is currently in use by {made}"):
        ec2.delete_snapshot(SnapshotId=used)
    ended = ec2.deregister_image(ImageId=made, DeleteAssociatedSnapshots=True)
    assert ended["DeleteSnapshotResults"] == [{"SnapshotId": used, "ReturnCode": "success"}]
    assert len(running(account, ImageId=copied)) == 1
    ec2.deregister_image(ImageId=copied)


def test_an_image_is_registered_of_snapshots(account: Account, ec2):
    snapshot = completed(ec2, Size=3)
    disks = [*of_root(snapshot, VolumeSize=4), {"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 1}}]
    words = {"Architecture": "x86_64", "RootDeviceName": "/dev/sda1", "VirtualizationType": "hvm", "EnaSupport": True}
    id = ec2.register_image(Name="registered", ImdsSupport="v2.0", BlockDeviceMappings=disks, **words)["ImageId"]
    seen = image(ec2, id)
    assert (seen["State"], seen["ImdsSupport"], seen["RootDeviceName"]) == ("available", "v2.0", "/dev/sda1")
    assert [disk["Ebs"]["VolumeSize"] for disk in seen["BlockDeviceMappings"]] == [4, 1]
    (made,) = run(account, ImageId=id)
    options = instance(ec2, made)["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)

    for code, disks, more in [
        ("InvalidBlockDeviceMapping", of_root(snapshot, VolumeSize=2), {}),
        ("InvalidBlockDeviceMapping", [{"DeviceName": "/dev/sda1", "Ebs": {}}], {}),
        ("InvalidBlockDeviceMapping", [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 2}}], {}),
        ("InvalidBlockDeviceMapping", of_root(snapshot) + of_root(snapshot), {}),
        ("InvalidSnapshot.NotFound", of_root("snap-0123456789abcdef0"), {}),
        ("InvalidParameterValue", of_root(snapshot, VolumeType="fast"), {}),
        ("InvalidParameter", of_root(snapshot, Encrypted=True), {}),
        ("UnsupportedOperation", of_root(snapshot), {"TpmSupport": "v2.0"}),
        ("UnsupportedOperation", of_root(snapshot), {"VirtualizationType": "paravirtual"}),
        ("UnsupportedOperation", of_root(snapshot), {"ImageLocation": "bucket/image.manifest.xml"}),
        ("InvalidParameterValue", of_root(snapshot), {"Architecture": "i386"}),
        ("InvalidAMIName.Duplicate", of_root(snapshot), {"Name": "registered"}),
    ]:
        with refused(code):
            ec2.register_image(**{"Name": "other", "BlockDeviceMappings": disks, **more})


def test_what_an_owner_says_of_an_image(fake_cloud: Cloud, account: Account, ec2):
    other = fake_cloud.account()
    id = ec2.register_image(Name="said", BlockDeviceMappings=of_root(completed(ec2, Size=1)))["ImageId"]

    def attribute(name: str) -> dict:
        return ec2.describe_image_attribute(ImageId=id, Attribute=name)

    ec2.modify_image_attribute(ImageId=id, Description={"Value": "words"})
    assert attribute("description")["Description"] == {"Value": "words"}
    ec2.modify_image_attribute(ImageId=id, Description={"Value": ""})
    assert "Value" not in attribute("description")["Description"]
    ec2.modify_image_attribute(ImageId=id, LaunchPermission={"Add": [{"UserId": other.id}]})
    assert attribute("launchPermission")["LaunchPermissions"] == [{"UserId": other.id}]
    (seen,) = other.ec2.describe_images(ExecutableUsers=["self"])["Images"]
    assert (seen["ImageId"], seen["OwnerId"]) == (id, account.id)
    assert len(run(other, ImageId=id)) == 1
    with refused("InvalidRequest", message="permission to access the storage of this ami"):
        other.ec2.copy_image(Name="copy", SourceImageId=id, SourceRegion=ec2.meta.region_name)
    ec2.reset_image_attribute(ImageId=id, Attribute="launchPermission")
    with refused("InvalidAMIID.NotFound"):
        other.ec2.describe_images(ImageIds=[id])
    ec2.modify_image_attribute(ImageId=id, Attribute="launchPermission", OperationType="add", UserGroups=["all"])
    assert image(other.ec2, id)["Public"] is True

    soon = datetime.now(UTC) + timedelta(days=30)
    ec2.enable_image_deprecation(ImageId=id, DeprecateAt=soon)
    assert image(ec2, id)["DeprecationTime"].startswith(soon.strftime("%Y-%m"))
    ec2.disable_image_deprecation(ImageId=id)
    assert "DeprecationTime" not in image(ec2, id)
    with refused("InvalidParameterValue"):
        ec2.enable_image_deprecation(ImageId=id, DeprecateAt="2001-01-01T00:00:00Z")
    ec2.disable_image(ImageId=id)
    assert ec2.describe_images(ImageIds=[id])["Images"] == []
    assert image(ec2, id, IncludeDisabled=True)["State"] == "disabled"
    with refused("InvalidAMIID.Unavailable"):
        run(account, ImageId=id)
    ec2.enable_image(ImageId=id)
    assert image(ec2, id)["Public"] is False
    assert ec2.enable_image_deregistration_protection(ImageId=id)["Return"] == "enabled-without-cooldown"
    with refused("OperationNotPermitted"):
        ec2.deregister_image(ImageId=id)
    assert ec2.disable_image_deregistration_protection(ImageId=id)["Return"] == "disabled"
    ec2.deregister_image(ImageId=id)


def test_the_clouds_own_images_are_amazons(account: Account, ec2):
    found = ec2.describe_images(Owners=["amazon"])["Images"]
    assert found and {each["ImageOwnerAlias"] for each in found} == {"amazon"}
    assert ec2.describe_images(Owners=["aws-marketplace"])["Images"] == []
    assert ec2.describe_images(Filters=[{"Name": "owner-alias", "Values": ["amazon"]}])["Images"] == found

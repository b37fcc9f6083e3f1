"""euca2ools' commands for volumes, snapshots and images: the requests that each sends, and what it prints of answers."""

from collections.abc import Callable
from functools import partial
from xml.etree import ElementTree

import pytest

from harness import volumes
from harness.cloud import Account
from harness.ec2 import FAST, instance, run, running, wait
from harness.euca2ools import euca, read, tree
from harness.signing import Raw

# What the tool prints of each, by the element's name.
VOLUME = ("volumeId", "size", "snapshotId", "availabilityZone", "status", "createTime")
ATTACHMENT = ("volumeId", "instanceId", "device", "status", "attachTime")
SNAPSHOT = ("snapshotId", "volumeId", "status", "startTime", "ownerId", "volumeSize", "description")
IMAGE = (
    "imageId", "name", "imageOwnerId", "imageState", "isPublic", "architecture", "imageType", "rootDeviceType",
    "virtualizationType", "hypervisor",
)  # fmt: skip
MAPPING = ("deviceName", "ebs/snapshotId", "ebs/volumeSize", "ebs/deleteOnTermination", "ebs/volumeType")
TAG = ("key", "value")

Ask = Callable[..., ElementTree.Element]


@pytest.fixture
def refused(account: Account, raw: Raw):
    """The error that a request is answered with."""
    return lambda name, **given: euca(account.cloud, raw, name, **given).error()


@pytest.fixture
def ask(account: Account, raw: Raw) -> Ask:
    """The answer to a request that is done."""
    send = partial(euca, account.cloud, raw)
    return lambda name, **given: tree(send(name, **given))


def snapshot_of(account: Account, gib: int = 1) -> str:
    """A snapshot that is taken, of a new volume."""
    snapshot = account.ec2.create_snapshot(VolumeId=volumes.create(account, gib))["SnapshotId"]
    volumes.wait_completed(account, snapshot)
    return snapshot


def available(account: Account, image: str) -> str:
    account.ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig=FAST)
    return image


def test_the_life_of_a_volume(account: Account, ask: Ask, refused):
    (one,) = running(account)
    assert ask("DescribeVolumes").find("{*}volumeSet") is not None, "the tool goes through it, also where it is empty"
    # euca-create-volume -z ZONE -s 1
    (made,) = read(ask("CreateVolume", AvailabilityZone=volumes.zone(account), Size="1"), ".", *VOLUME)
    volume = made["volumeId"]
    assert (made["size"], made["status"], made["snapshotId"]) == ("1", "creating", None)
    # euca-create-tags vol-… --tag n=v
    ask("CreateTags", ResourceId__1=volume, Tag__1__Key="n", Tag__1__Value="v")
    volumes.wait_free(account, volume)
    # euca-attach-volume vol-… -i i-… -d /dev/sdf
    known = {"VolumeId": volume, "InstanceId": one, "Device": "/dev/sdf"}
    (attached,) = read(ask("AttachVolume", **known), ".", *ATTACHMENT)
    expected = {"volumeId": volume, "instanceId": one, "device": "/dev/sdf", "status": "attaching"}
    assert attached | expected == attached
    volumes.wait_attached(account, volume, one)
    # euca-describe-volumes vol-… --filter attachment.instance-id=i-… --filter tag:n=v
    seen = ask(
        "DescribeVolumes", VolumeId__1=volume, Filter__1__Name="attachment.instance-id", Filter__1__Value__1=one,
        Filter__2__Name="tag:n", Filter__2__Value__1="v",
    )  # fmt: skip
    (shown,) = read(seen, "volumeSet/item", *VOLUME, "volumeType", "iops")
    assert (shown["volumeId"], shown["status"], shown["volumeType"]) == (volume, "in-use", "gp2")
    (shown,) = read(seen, "volumeSet/item/attachmentSet/item", *ATTACHMENT)
    assert shown | expected | {"status": "attached"} == shown
    assert read(seen, "volumeSet/item/tagSet/item", *TAG) == [{"key": "n", "value": "v"}]
    # euca-detach-volume vol-…: without an instance, and saying that it is not by force. By force it is refused.
    assert refused("DetachVolume", VolumeId=volume, Force="true") == ("UnsupportedOperation", 400)
    (freed,) = read(ask("DetachVolume", VolumeId=volume, Force="false"), ".", *ATTACHMENT)
    assert freed | expected | {"status": "detaching"} == freed
    volumes.wait_free(account, volume)
    # euca-delete-volume vol-…
    ask("DeleteVolume", VolumeId=volume)
    volumes.wait_gone(account, volume)


def test_volumes_of_a_snapshot_and_of_a_type(account: Account, ask: Ask):
    snapshot = snapshot_of(account, 2)
    zone = volumes.zone(account)
    # euca-create-volume -z ZONE --snapshot snap-…
    (made,) = read(ask("CreateVolume", AvailabilityZone=zone, SnapshotId=snapshot), ".", *VOLUME)
    assert (made["snapshotId"], made["size"]) == (snapshot, "2")
    # euca-create-volume -z ZONE -s 10 -t io1 -i 200
    (made,) = read(
        ask("CreateVolume", AvailabilityZone=zone, Size="10", VolumeType="io1", Iops="200"),
        ".",
        *VOLUME,
        "volumeType",
        "iops",
    )
    assert (made["volumeType"], made["iops"]) == ("io1", "200")


def test_the_life_of_a_snapshot(account: Account, ask: Ask, refused):
    volume, other = volumes.create(account), account.cloud.account().id
    # euca-create-snapshot vol-… -d words
    (made,) = read(ask("CreateSnapshot", VolumeId=volume, Description="words"), ".", *SNAPSHOT)
    snapshot = made["snapshotId"]
    assert (made["volumeId"], made["status"], made["description"]) == (volume, "pending", "words")
    volumes.wait_completed(account, snapshot)
    # euca-describe-snapshots: what one owns, and then what one may make volumes of; both are printed.
    own, may = ask("DescribeSnapshots", Owner__1="self"), ask("DescribeSnapshots", RestorableBy__1="self")
    (shown,) = read(own, "snapshotSet/item", *SNAPSHOT, "progress")
    assert (shown["snapshotId"], shown["status"], shown["progress"], shown["ownerId"]) == (
        snapshot, "completed", "100%", account.id,
    )  # fmt: skip
    assert may.find("{*}snapshotSet") is not None
    # euca-describe-snapshots -a snap-… --filter volume-id=vol-…
    found = ask("DescribeSnapshots", SnapshotId__1=snapshot, Filter__1__Name="volume-id", Filter__1__Value__1=volume)
    assert len(read(found, "snapshotSet/item", *SNAPSHOT)) == 1
    # euca-modify-snapshot-attribute snap-… -c -a ACCOUNT -a all, then -r all
    add = {"CreateVolumePermission__Add__1__UserId": other, "CreateVolumePermission__Add__2__Group": "all"}
    ask("ModifySnapshotAttribute", SnapshotId=snapshot, **add)
    ask("ModifySnapshotAttribute", SnapshotId=snapshot, CreateVolumePermission__Remove__1__Group="all")
    # euca-describe-snapshot-attribute snap-… -c, and -p
    asked = {"SnapshotId": snapshot, "Attribute": "createVolumePermission"}
    seen = ask("DescribeSnapshotAttribute", **asked)
    assert read(seen, ".", "snapshotId") == [{"snapshotId": snapshot}]
    assert read(seen, "createVolumePermission/item", "userId") == [{"userId": other}]
    codes = ask("DescribeSnapshotAttribute", SnapshotId=snapshot, Attribute="productCodes")
    assert read(codes, "productCodes/item") == []
    # euca-reset-snapshot-attribute snap-… -c
    ask("ResetSnapshotAttribute", **asked)
    assert read(ask("DescribeSnapshotAttribute", **asked), "createVolumePermission/item", "userId") == []
    # euca-delete-snapshot snap-…
    ask("DeleteSnapshot", SnapshotId=snapshot)
    assert refused("DescribeSnapshots", SnapshotId__1=snapshot) == ("InvalidSnapshot.NotFound", 400)


def test_an_image_of_a_snapshot(account: Account, ask: Ask):
    root, data = snapshot_of(account, 2), snapshot_of(account)
    # euca-register -n one -d words -a x86_64 -s snap-…: the root device's name is the tool's
    wanted = {"Name": "one", "Description": "words", "Architecture": "x86_64", "RootDeviceName": "/dev/sda1"}
    mapped = {"BlockDeviceMapping__1__DeviceName": "/dev/sda1", "BlockDeviceMapping__1__Ebs__SnapshotId": root}
    (made,) = read(ask("RegisterImage", **wanted, **mapped), ".", "imageId")
    image = available(account, made["imageId"])
    # euca-register -n two -a x86_64 --root-device-name /dev/xvda --virtualization-type hvm -b /dev/xvda=snap-…:4:true:gp2
    #     -b /dev/sdf=snap-…:4:false:io1:100 -b /dev/sdg=:1
    more = {
        "Name": "two", "Architecture": "x86_64", "RootDeviceName": "/dev/xvda", "VirtualizationType": "hvm",
        "BlockDeviceMapping__1__DeviceName": "/dev/xvda", "BlockDeviceMapping__1__Ebs__SnapshotId": root,
        "BlockDeviceMapping__1__Ebs__VolumeSize": "4", "BlockDeviceMapping__1__Ebs__DeleteOnTermination": "true",
        "BlockDeviceMapping__1__Ebs__VolumeType": "gp2", "BlockDeviceMapping__2__DeviceName": "/dev/sdf",
        "BlockDeviceMapping__2__Ebs__SnapshotId": data, "BlockDeviceMapping__2__Ebs__VolumeSize": "4",
        "BlockDeviceMapping__2__Ebs__DeleteOnTermination": "false", "BlockDeviceMapping__2__Ebs__VolumeType": "io1",
        "BlockDeviceMapping__2__Ebs__Iops": "100",
        "BlockDeviceMapping__3__DeviceName": "/dev/sdg", "BlockDeviceMapping__3__Ebs__VolumeSize": "1",
    }  # fmt: skip
    (made,) = read(ask("RegisterImage", **more), ".", "imageId")
    two = available(account, made["imageId"])
    # euca-describe-images: what one owns, and then what one is let launch
    own, may = ask("DescribeImages", Owner__1="self"), ask("DescribeImages", ExecutableBy__1="self")
    rows = {row["imageId"]: row for row in read(own, "imagesSet/item", *IMAGE)}
    assert set(rows) == {image, two} and may.find("{*}imagesSet") is not None
    assert rows[image] == {
        "imageId": image, "name": "one", "imageOwnerId": account.id, "imageState": "available", "isPublic": "false",
        "architecture": "x86_64", "imageType": "machine", "rootDeviceType": "ebs", "virtualizationType": "hvm",
        "hypervisor": rows[two]["hypervisor"],
    }  # fmt: skip
    # euca-describe-images ami-… --filter state=available
    seen = ask("DescribeImages", ImageId__1=two, Filter__1__Name="state", Filter__1__Value__1="available")
    disks = seen.findall("./{*}imagesSet/{*}item/{*}blockDeviceMapping/{*}item/{*}deviceName")
    assert [disk.text for disk in disks] == ["/dev/xvda", "/dev/sdf", "/dev/sdg"]
    # euca-deregister ami-…
    for each in (image, two):
        ask("DeregisterImage", ImageId=each)
        assert ask("DescribeImages", ImageId__1=each).findall("./{*}imagesSet/{*}item") == []


def test_attributes_of_an_image(account: Account, ask: Ask):
    other = account.cloud.account().id
    root = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot_of(account)}}
    made = account.ec2.register_image(
        Name="one", RootDeviceName="/dev/sda1", BlockDeviceMappings=[root], Architecture="x86_64"
    )
    image = available(account, made["ImageId"])

    def shown(attribute: str, path: str, *names: str) -> list[dict]:
        seen = ask("DescribeImageAttribute", ImageId=image, Attribute=attribute)
        assert read(seen, ".", "imageId") == [{"imageId": image}]
        return read(seen, path, *names)

    # euca-modify-image-attribute ami-… --description words
    ask("ModifyImageAttribute", ImageId=image, Description__Value="words")
    # euca-modify-image-attribute ami-… -l -a ACCOUNT -a all, then -r all
    add = {"LaunchPermission__Add__1__UserId": other, "LaunchPermission__Add__2__Group": "all"}
    ask("ModifyImageAttribute", ImageId=image, **add)
    ask("ModifyImageAttribute", ImageId=image, LaunchPermission__Remove__1__Group="all")
    # euca-describe-image-attribute ami-… with --description, -l, -B, -p
    assert shown("description", "description", "value") == [{"value": "words"}]
    assert shown("launchPermission", "launchPermission/item", "userId") == [{"userId": other}]
    (mapped,) = shown("blockDeviceMapping", "blockDeviceMapping/item", "deviceName", "ebs/snapshotId")
    assert mapped == {"deviceName": "/dev/sda1", "ebs/snapshotId": root["Ebs"]["SnapshotId"]}
    assert shown("productCodes", "productCodes/item") == []
    # --kernel, --ramdisk: there are none, and nothing is printed
    assert shown("kernel", "kernel/value") == shown("ramdisk", "ramdisk/value") == []
    # euca-reset-image-attribute ami-… -l
    ask("ResetImageAttribute", ImageId=image, Attribute="launchPermission")
    assert shown("launchPermission", "launchPermission/item", "userId") == []


def test_an_image_of_an_instance_and_its_copy(account: Account, ask: Ask):
    (one,) = running(account)
    # euca-create-image i-… -n one -d words --no-reboot -b /dev/sdb=:1 -b /dev/sdc=none
    wanted = {
        "InstanceId": one, "Name": "one", "Description": "words", "NoReboot": "true",
        "BlockDeviceMapping__1__DeviceName": "/dev/sdb", "BlockDeviceMapping__1__Ebs__VolumeSize": "1",
        "BlockDeviceMapping__2__DeviceName": "/dev/sdc", "BlockDeviceMapping__2__NoDevice": "none",
    }  # fmt: skip
    (made,) = read(ask("CreateImage", **wanted), ".", "imageId")
    image = available(account, made["imageId"])
    (root,) = [
        row for row in read(ask("DescribeImages", ImageId__1=image), "imagesSet/item/blockDeviceMapping/item", "deviceName")
        if row["deviceName"] not in ("/dev/sdb", "/dev/sdc")
    ]  # fmt: skip
    assert root["deviceName"] == instance(account.ec2, one)["RootDeviceName"]
    # euca-create-image i-… -n two: with a reboot
    (made,) = read(ask("CreateImage", InstanceId=one, Name="two"), ".", "imageId")
    available(account, made["imageId"])
    wait(account, [one], "running")
    # euca-copy-image -r us-east-1 -s ami-… -n three -d words -c token
    copy = {
        "SourceRegion": "us-east-1",
        "SourceImageId": image,
        "Name": "three",
        "Description": "words",
        "ClientToken": "t",
    }
    copies = [read(ask("CopyImage", **copy), ".", "imageId") for _ in range(2)]
    assert copies[0] == copies[1]
    copied = available(account, copies[0][0]["imageId"])
    (shown,) = read(ask("DescribeImages", ImageId__1=copied), "imagesSet/item", *IMAGE, "description")
    assert (shown["name"], shown["description"]) == ("three", "words")
    for row in read(ask("DescribeImages", ImageId__1=copied), "imagesSet/item/blockDeviceMapping/item", "deviceName"):
        assert row["deviceName"] in (root["deviceName"], "/dev/sdb")


def test_a_launch_with_disks(account: Account, ask: Ask):
    snapshot = snapshot_of(account)
    # euca-run-instances ami-… -b /dev/sdf=:2:false:gp2 -b /dev/sdg=snap-…::true -b /dev/sdh=none
    disks = {
        "BlockDeviceMapping__1__DeviceName": "/dev/sdf", "BlockDeviceMapping__1__Ebs__VolumeSize": "2",
        "BlockDeviceMapping__1__Ebs__DeleteOnTermination": "false", "BlockDeviceMapping__1__Ebs__VolumeType": "gp2",
        "BlockDeviceMapping__2__DeviceName": "/dev/sdg", "BlockDeviceMapping__2__Ebs__SnapshotId": snapshot,
        "BlockDeviceMapping__2__Ebs__DeleteOnTermination": "true",
        "BlockDeviceMapping__3__DeviceName": "/dev/sdh", "BlockDeviceMapping__3__NoDevice": "none",
    }  # fmt: skip
    made = ask("RunInstances", ImageId=account.cloud.image, MinCount="1", MaxCount="1", **disks)
    (launched,) = read(made, "instancesSet/item", "instanceId")
    id = launched["instanceId"]
    wait(account, [id], "running")
    attributes = ("deviceName", "ebs/volumeId", "ebs/attachTime", "ebs/deleteOnTermination")
    seen = ask("DescribeInstances", InstanceId__1=id)
    rows = read(seen, "reservationSet/item/instancesSet/item/blockDeviceMapping/item", *attributes)
    shown = {row["deviceName"]: row["ebs/deleteOnTermination"] for row in rows}
    assert {device: shown[device] for device in ("/dev/sdf", "/dev/sdg")} == {"/dev/sdf": "false", "/dev/sdg": "true"}
    # euca-modify-instance-attribute i-… -b /dev/sdf=::true
    change = {"BlockDeviceMapping__1__DeviceName": "/dev/sdf", "BlockDeviceMapping__1__Ebs__DeleteOnTermination": "true"}
    ask("ModifyInstanceAttribute", InstanceId=id, **change)
    # euca-describe-instance-attribute i-… -b
    seen = ask("DescribeInstanceAttribute", InstanceId=id, Attribute="blockDeviceMapping")
    rows = read(seen, "blockDeviceMapping/item", "deviceName", "ebs/volumeId", "ebs/deleteOnTermination")
    assert {row["ebs/deleteOnTermination"] for row in rows} == {"true"}
    # euca-run-instances ami-… -b /dev/sdb=ephemeral0: a type without such disks starts without
    ephemeral = {"BlockDeviceMapping__1__DeviceName": "/dev/sdb", "BlockDeviceMapping__1__VirtualName": "ephemeral0"}
    ask("RunInstances", ImageId=account.cloud.image, MinCount="1", MaxCount="1", **ephemeral)


def test_commands_of_bundles_and_of_imports_are_refused_by_name(account: Account, refused):
    """What wants an S3 door, which there is none of yet: the tool prints code and text, and ends with 1."""
    (one,) = run(account)
    # euca-register BUCKET/MANIFEST -n one
    assert refused("RegisterImage", Name="one", ImageLocation="bucket/image.manifest.xml") == ("UnsupportedOperation", 400)
    for name, given in [
        ("BundleInstance", {"InstanceId": one}),
        ("DescribeBundleTasks", {}),
        ("CancelBundleTask", {"BundleId": "bun-12345678"}),
        ("ImportVolume", {"AvailabilityZone": "us-east-1a"}),
        ("ImportInstance", {"Platform": "Linux"}),
        ("DescribeConversionTasks", {}),
        ("CancelConversionTask", {"ConversionTaskId": "import-vol-12345678"}),
        ("ConfirmProductInstance", {"InstanceId": one, "ProductCode": "code"}),
    ]:
        assert refused(name, **given) == ("UnsupportedOperation", 400), name

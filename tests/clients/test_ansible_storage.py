"""Ansible's modules for volumes, snapshots and images: described they are there, described again nothing changes."""

import pytest

from harness import ansible as program
from harness import volumes
from harness.ansible import Ansible, task
from harness.cloud import Account
from harness.ec2 import error_of, instance, running

pytestmark = [pytest.mark.clients, pytest.mark.skipif(bool(program.missing()), reason=program.missing())]


def changes(played: dict[str, dict]) -> dict[str, bool]:
    """Which tasks have changed something, by their names."""
    return {name: result["changed"] for name, result in played.items()}


def test_the_life_of_a_volume(ansible: Ansible, account: Account):
    wanted = {"name": "data", "zone": volumes.zone(account), "volume_type": "gp2"}
    larger = wanted | {
        "volume_type": "gp3",
        "modify_volume": True,
        "volume_size": 8,
        "iops": 4000,
        "throughput": 250,
        "tags": {"tier": "db"},
    }
    made = ansible.play(
        task("first", "ec2_vol", volume_size=2, **wanted),
        task("again", "ec2_vol", volume_size=2, **wanted),
        task("larger", "ec2_vol", **larger),
        task("as large", "ec2_vol", **larger),
        task("seen", "ec2_vol_info", filters={"tag:Name": "data"}),
        task("gone", "ec2_vol", name="data", state="absent"),
        task("gone again", "ec2_vol", name="data", state="absent"),
    )
    id = made["first"]["volume_id"]
    assert changes(made) == {
        "first": True, "again": False, "larger": True, "as large": False, "seen": False, "gone": True, "gone again": False,
    }  # fmt: skip
    first = made["first"]["volume"]
    assert (first["size"], first["type"], first["status"], first["iops"]) == (2, "gp2", "available", 100)
    assert {result["volume_id"] for name, result in made.items() if "volume_id" in result} == {id}
    (seen,) = made["seen"]["volumes"]
    assert (seen["id"], seen["type"], seen["size"], seen["iops"], seen["throughput"]) == (id, "gp3", 8, 4000, 250)
    assert seen["tags"] == {"Name": "data", "tier": "db"} and seen["attachment_set"] == []
    assert volumes.is_gone(account, id)


def test_a_volume_comes_to_an_instance_and_goes(ansible: Ansible, account: Account):
    (id,) = running(account)
    wanted = {"name": "data", "volume_size": 1, "device_name": "/dev/sdg", "instance": id}
    made = ansible.play(
        task("attached", "ec2_vol", delete_on_termination=True, **wanted),
        task("again", "ec2_vol", delete_on_termination=True, **wanted),
        task("in the way", "ec2_vol", **wanted | {"name": "another"}),
    )
    volume = made["attached"]["volume_id"]
    assert changes(made) == {"attached": True, "again": False, "in the way": False}
    assert made["in the way"]["volume_id"] == volume and "already exists" in made["in the way"]["msg"]
    assert volumes.attached_to(account, volume) == (id, "attached")
    (disk,) = [m["Ebs"] for m in instance(account.ec2, id)["BlockDeviceMappings"] if m["DeviceName"] == "/dev/sdg"]
    assert (disk["VolumeId"], disk["DeleteOnTermination"]) == (volume, True)
    freed = ansible.play(
        task("detached", "ec2_vol", name="data", instance=""),
        task("again", "ec2_vol", name="data", instance=""),
        task("gone", "ec2_vol", id=volume, state="absent"),
        task("gone again", "ec2_vol", id=volume, state="absent"),
    )
    assert changes(freed) == {"detached": True, "again": False, "gone": True, "gone again": False}
    assert freed["detached"]["volume"]["attachment_set"] == []
    assert volumes.is_gone(account, volume)


def test_snapshots_and_a_volume_of_one(ansible: Ansible, account: Account):
    (instance_id,) = running(account)
    volume = volumes.create(account, 2)
    volumes.attach(account, volume, instance_id, "/dev/sdf")
    taken = {"volume_id": volume, "description": "of data", "snapshot_tags": {"frequency": "hourly"}}
    made = ansible.play(
        task("plain", "ec2_snapshot", volume_id=volume),
        task("of a volume", "ec2_snapshot", **taken),
        task("young enough", "ec2_snapshot", last_snapshot_min_age=60, **taken),
        task("of a device", "ec2_snapshot", instance_id=instance_id, device_name="/dev/sdf"),
    )
    assert changes(made) == {"plain": True, "of a volume": True, "young enough": False, "of a device": True}
    one, other = made["of a volume"]["snapshot_id"], made["of a device"]["snapshot_id"]
    assert made["young enough"]["snapshot_id"] == one and made["of a device"]["volume_id"] == volume
    assert made["plain"]["tags"] == {} and made["of a volume"]["tags"] == {"frequency": "hourly"}
    looked = ansible.play(
        task("by id", "ec2_snapshot_info", snapshot_ids=[one, other]),
        task("by tag", "ec2_snapshot_info", filters={"tag:frequency": "hourly", "status": "completed"}),
        task("a page", "ec2_snapshot_info", owner_ids=["self"], max_results=5),
        task("a volume of it", "ec2_vol", zone=volumes.zone(account), snapshot=one, name="again"),
    )
    assert {snapshot["snapshot_id"] for snapshot in looked["by id"]["snapshots"]} == {one, other}
    (seen,) = looked["by tag"]["snapshots"]
    assert (seen["snapshot_id"], seen["description"], seen["progress"], seen["volume_size"]) == (one, "of data", "100%", 2)
    assert len(looked["a page"]["snapshots"]) == 3
    again = looked["a volume of it"]["volume"]
    assert (again["snapshot_id"], again["size"], again["type"]) == (one, 2, "standard")
    gone = ansible.play(
        task("gone", "ec2_snapshot", snapshot_id=one, state="absent"),
        task("gone again", "ec2_snapshot", snapshot_id=one, state="absent"),
    )
    assert changes(gone) == {"gone": True, "gone again": False}
    assert error_of(account.ec2.describe_snapshots, SnapshotIds=[one]) == ("InvalidSnapshot.NotFound", 400)


def test_who_may_make_volumes_of_a_snapshot(ansible: Ansible, account: Account):
    other = account.cloud.account()
    snapshot = account.ec2.create_snapshot(VolumeId=volumes.create(account))["SnapshotId"]
    volumes.wait_completed(account, snapshot)
    shared = {"snapshot_id": snapshot, "modify_create_vol_permission": True}
    made = ansible.play(
        task("with one", "ec2_snapshot", user_ids=[other.id], **shared),
        task("again", "ec2_snapshot", user_ids=[other.id], **shared),
        task("seen", "ec2_snapshot_info", snapshot_ids=[snapshot]),
        task("with everybody", "ec2_snapshot", group_names=["all"], purge_create_vol_permission=True, **shared),
        task("everybody again", "ec2_snapshot", group_names=["all"], purge_create_vol_permission=True, **shared),
        task("private", "ec2_snapshot", purge_create_vol_permission=True, **shared),
        task("private again", "ec2_snapshot", purge_create_vol_permission=True, **shared),
    )
    assert changes(made) == {
        "with one": True, "again": False, "seen": False, "with everybody": True, "everybody again": False,
        "private": True, "private again": False,
    }  # fmt: skip
    (seen,) = made["seen"]["snapshots"]
    assert seen["create_volume_permissions"] == [{"user_id": other.id}]


def test_an_image_of_an_instance(ansible: Ansible, account: Account):
    (id,) = running(account)
    other = account.cloud.account()
    wanted = {"instance_id": id, "name": "golden", "no_reboot": True, "wait": True, "tags": {"made": "by ansible"}}
    # A disk of the image alone, and one of the instance's left out.
    disks = [
        {"device_name": "/dev/sdb", "volume_size": 1, "volume_type": "gp3"},
        {"device_name": "/dev/sdc", "no_device": True},
    ]
    made = ansible.play(task("made", "ec2_ami", device_mapping=disks, description="one", **wanted))["made"]
    image = made["image_id"]
    assert (made["changed"], made["state"], made["name"], made["tags"]) == (
        True,
        "available",
        "golden",
        {"made": "by ansible"},
    )
    assert made["block_device_mapping"]["/dev/sdb"]["size"] == 1 and "/dev/sdc" not in made["block_device_mapping"]
    assert instance(account.ec2, id)["State"]["Name"] == "running"
    changed = {"image_id": image, "launch_permissions": {"user_ids": [other.id]}, "description": "two", "tags": {"n": "2"}}
    played = ansible.play(
        task("changed", "ec2_ami", **changed),
        task("again", "ec2_ami", **changed),
        task("by id", "ec2_ami_info", image_ids=[image], describe_image_attributes=True),
        task("by name", "ec2_ami_info", owners=["self"], filters={"name": "gold*"}),
        task("by owner", "ec2_ami_info", owners=[account.id]),
        task("none", "ec2_ami_info", executable_users=["self"], filters={"name": "golden"}),
    )
    assert changes(played) == {name: name == "changed" for name in played}
    (seen,) = played["by id"]["images"]
    assert (seen["description"], seen["tags"], seen["launch_permissions"]) == ("two", {"n": "2"}, [{"user_id": other.id}])
    assert [found["image_id"] for name in ("by name", "by owner") for found in played[name]["images"]] == [image] * 2
    assert played["none"]["images"] == []
    private = {"image_id": image, "launch_permissions": {"user_ids": []}}
    gone = ansible.play(
        task("private", "ec2_ami", **private),
        task("private again", "ec2_ami", **private),
        task("gone", "ec2_ami", image_id=image, state="absent", delete_snapshot=True),
    )
    assert changes(gone) == {"private": True, "private again": False, "gone": True}
    assert len(gone["gone"]["snapshots_deleted"]) == 1
    assert account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_an_image_that_is_gone_is_waited_for_and_gone_again(ansible: Ansible, account: Account):
    snapshot = account.ec2.create_snapshot(VolumeId=volumes.create(account))["SnapshotId"]
    volumes.wait_completed(account, snapshot)
    root = {"device_name": "/dev/xvda", "snapshot_id": snapshot}
    made = ansible.play(task("made", "ec2_ami", name="one", root_device_name="/dev/xvda", device_mapping=[root]))["made"]
    absent = {"image_id": made["image_id"], "state": "absent"}
    gone = ansible.play(
        task("gone", "ec2_ami", wait=True, wait_timeout=60, **absent), task("gone again", "ec2_ami", **absent)
    )
    assert changes(gone) == {"gone": True, "gone again": False}


def test_an_image_of_a_snapshot(ansible: Ansible, account: Account):
    other = account.cloud.account()
    snapshot = account.ec2.create_snapshot(VolumeId=volumes.create(account, 2))["SnapshotId"]
    volumes.wait_completed(account, snapshot)
    root = {
        "device_name": "/dev/xvda", "snapshot_id": snapshot, "volume_size": 4, "volume_type": "gp2",
        "delete_on_termination": True,
    }  # fmt: skip
    wanted = {
        "name": "registered", "architecture": "x86_64", "root_device_name": "/dev/xvda", "device_mapping": [root],
        "boot_mode": "uefi", "enhanced_networking": True, "tags": {"made": "by ansible"}, "wait": True,
        "launch_permissions": {"user_ids": [other.id]},
    }  # fmt: skip
    played = ansible.play(
        task("made", "ec2_ami", **wanted),
        task("kept", "ec2_ami_info", filters={"block-device-mapping.snapshot-id": snapshot}),
    )
    made, (seen,) = played["made"], played["kept"]["images"]
    assert made["changed"] and made["block_device_mapping"]["/dev/xvda"] == {
        "size": 4, "snapshot_id": snapshot, "volume_type": "gp2", "encrypted": False, "delete_on_termination": True,
    }  # fmt: skip
    assert (seen["image_id"], seen["boot_mode"], seen["tags"]) == (made["image_id"], "uefi", {"made": "by ansible"})
    # What Ansible tags besides.
    (tagged,) = account.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    assert tagged["Tags"] == [{"Key": "made", "Value": "by ansible"}]
    (theirs,) = other.ec2.describe_images(ExecutableUsers=["self"])["Images"]
    assert theirs["ImageId"] == made["image_id"]
    gone = ansible.play(task("gone", "ec2_ami", image_id=made["image_id"], state="absent", delete_snapshot=False))
    assert gone["gone"]["changed"]
    assert error_of(account.ec2.describe_snapshots, SnapshotIds=[snapshot]) == ("ok", 200)

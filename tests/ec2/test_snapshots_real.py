"""Snapshots with real guests: one holds what a disk was while the guest goes on writing, volumes are made of it, and
the next takes no more room than has changed."""

import pytest

from harness import volumes
from harness.cloud import Account, Cloud
from harness.ec2 import FAST, error_of, refused
from harness.guest import Guest
from harness.volumes import attach, begin_counting, detach, mount, wait_completed, wait_disk

pytestmark = pytest.mark.one_process

SUM = "sha256sum </mnt/file"


def room(cloud: Cloud) -> int:
    """The bytes that the data of all snapshots takes."""
    return sum(path.stat().st_blocks * 512 for path in cloud.state.glob("snapshots/segments/*"))


def restored(account: Account, snapshot: str, guest: Guest, look: str) -> str:
    """What a command says of a volume that is made of a snapshot, in another guest."""
    zone = volumes.zone(account)
    made = account.ec2.create_volume(AvailabilityZone=zone, SnapshotId=snapshot, VolumeType="gp3")
    assert made["SnapshotId"] == snapshot
    volume = made["VolumeId"]
    account.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=FAST)
    attach(account, volume, guest.id, "/dev/sdg")
    mount(guest, volume)
    try:
        return guest.ssh(look, timeout=120)
    finally:
        guest.ssh("umount /mnt", timeout=120)
        detach(account, volume)


def test_a_snapshot_is_what_the_disk_was_while_its_guest_goes_on_writing(pair):
    account, one, two = pair
    cloud, ec2 = account.cloud, account.ec2
    volume = volumes.create(account)
    attach(account, volume, one.id)
    one.ssh(f"mkfs.ext4 -q /dev/{wait_disk(one, volume)}", timeout=300)
    mount(one, volume)
    written = one.ssh(f"head -c 20000000 /dev/urandom >/mnt/file; sync; {SUM}", timeout=120)
    before = begin_counting(one)

    words = ("create-snapshot", "--volume-id", volume, "--description", "while it writes")
    made = cloud.aws("ec2", *words, key=account.key)
    assert (made["State"], made["VolumeId"], made["VolumeSize"]) == ("pending", volume, 1)
    first = made["SnapshotId"]
    shown = wait_completed(account, first)
    assert (shown["Progress"], shown["Description"]) == ("100%", "while it writes")
    assert shown["FullSnapshotSizeInBytes"] >= 20_000_000
    after = int(one.ssh("touch /tmp/stop; sleep 1; cat /mnt/counter"))
    assert after > before
    # The file and the counter are as they were at a moment after the call began, and a file system is whole.
    seen = restored(account, first, two, f"cat /mnt/counter; {SUM}").split("\n")
    assert before <= int(seen[0]) <= after, (before, seen, after)
    assert seen[1] == written

    # The next takes as much room as has changed.
    took = room(cloud)
    changed = one.ssh(f"head -c 1000000 /dev/urandom >/mnt/more; sync; {SUM}", timeout=120)
    second = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    assert wait_completed(account, second)["FullSnapshotSizeInBytes"] >= 21_000_000
    assert room(cloud) - took < 10_000_000, (took, room(cloud))
    # The first can go before it.
    ec2.delete_snapshot(SnapshotId=first)
    with refused("InvalidSnapshot.NotFound"):
        ec2.describe_snapshots(SnapshotIds=[first])
    assert restored(account, second, two, SUM) == changed == written

    # A copy is another's own; what nobody has in hands is read as it is.
    one.ssh("umount /mnt", timeout=120)
    detach(account, volume)
    third = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    wait_completed(account, third)
    copy = ec2.copy_snapshot(SourceRegion=ec2.meta.region_name, SourceSnapshotId=third)["SnapshotId"]
    assert ec2.describe_snapshots(SnapshotIds=[copy])["Snapshots"][0]["Description"] == ""
    ec2.delete_snapshot(SnapshotId=third)
    ec2.delete_volume(VolumeId=volume)
    assert restored(account, copy, two, SUM) == written
    assert not list(cloud.state.glob("hosts/*/*/*.copy")) + list(cloud.state.glob("hosts/*/*/*/*.copy"))
    cloud.wait_clean()


def test_all_volumes_of_an_instance_are_of_one_moment(pair):
    account, one, two = pair
    ec2 = account.ec2
    volume = volumes.create(account)
    attach(account, volume, one.id)
    one.ssh(f"mkfs.ext4 -q /dev/{wait_disk(one, volume)}", timeout=300)
    mount(one, volume)
    one.ssh("echo here >/mnt/mark; sync")
    made = ec2.create_snapshots(
        InstanceSpecification={"InstanceId": one.id},
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "of", "Value": "both"}]}],
    )["Snapshots"]
    assert len(made) == 2 and {each["VolumeId"] for each in made} >= {volume}
    for each in made:
        wait_completed(account, each["SnapshotId"])
    found = ec2.describe_snapshots(Filters=[{"Name": "tag:of", "Values": ["both"]}])["Snapshots"]
    assert {each["SnapshotId"] for each in found} == {each["SnapshotId"] for each in made}
    (data,) = [each["SnapshotId"] for each in made if each["VolumeId"] == volume]
    assert restored(account, data, two, "cat /mnt/mark") == "here"
    # The root of one that is stopped.
    one.hang_up()
    ec2.stop_instances(InstanceIds=[one.id])
    one.wait_state("stopped")
    (root,) = [m["Ebs"]["VolumeId"] for m in one.describe()["BlockDeviceMappings"] if m["Ebs"]["VolumeId"] != volume]
    still = ec2.create_snapshot(VolumeId=root)["SnapshotId"]
    assert wait_completed(account, still)["FullSnapshotSizeInBytes"] > 1_000_000
    code, _ = error_of(ec2.create_volume, AvailabilityZone=volumes.zone(account), SnapshotId=still, Size=0)
    assert code == "InvalidParameterValue"
    account.cloud.wait_clean()

"""Copies of volumes with real guests: each holds what a disk was at a moment while its guest goes on writing, whatever
becomes of the disk, and another guest gets it."""

import pytest

from harness import volumes
from harness.cloud import Account
from harness.ec2 import FAST, error_of, refused
from harness.guest import Guest
from harness.volumes import attach, begin_counting, describe, detach, mount, wait_disk, wait_gone

pytestmark = pytest.mark.one_process

SUM = "sha256sum </mnt/file"


def copied(account: Account, source: str, **more) -> str:
    """A copy that can be attached; its id."""
    (made,) = account.ec2.copy_volumes(SourceVolumeId=source, **more)["Volumes"]
    assert (made["State"], made["SourceVolumeId"], made["SnapshotId"]) == ("creating", source, "")
    id = made["VolumeId"]
    account.ec2.get_waiter("volume_available").wait(VolumeIds=[id], WaiterConfig=FAST)
    return id


def seen(account: Account, volume: str, guest: Guest, look: str) -> str:
    """What a command says of a volume, in another guest."""
    attach(account, volume, guest.id, "/dev/sdg")
    mount(guest, volume)
    try:
        return guest.ssh(look, timeout=120)
    finally:
        guest.ssh("umount /mnt", timeout=120)
        detach(account, volume)


def test_a_copy_is_what_the_disk_was_while_its_guest_goes_on_writing(pair):
    account, one, two = pair
    cloud, ec2 = account.cloud, account.ec2
    source = volumes.create(account)
    attach(account, source, one.id)
    one.ssh(f"mkfs.ext4 -q /dev/{wait_disk(one, source)}", timeout=300)
    mount(one, source)
    written = one.ssh(f"head -c 20000000 /dev/urandom >/mnt/file; sync; {SUM}", timeout=120)

    # Two of them while it writes: a larger one of another type, and an encrypted one.
    moments, copies = [begin_counting(one)], []
    for more in ({"Size": 2, "VolumeType": "gp3"}, {"Encrypted": True}):
        copies.append(copied(account, source, **more))
        moments.append(int(one.ssh("cat /mnt/counter")))
    shown = describe(account, copies[0])
    assert (shown["Size"], shown["VolumeType"], shown["SourceVolumeId"]) == (2, "gp3", source)
    assert describe(account, copies[1])["Encrypted"] and not describe(account, source)["Encrypted"]
    assert int(one.ssh("touch /tmp/stop; sleep 1; cat /mnt/counter")) > moments[0]

    # The source goes on, and goes; what was copied is another's own.
    one.ssh("rm /mnt/file; echo 0 >/mnt/counter; sync; umount /mnt", timeout=120)
    detach(account, source)
    ec2.delete_volume(VolumeId=source)
    wait_gone(account, source)
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == [], "nobody sees what copies are made of"
    for copy, least, most in zip(copies, moments, moments[1:]):
        counter, sum = seen(account, copy, two, f"cat /mnt/counter; {SUM}").split("\n")
        assert least <= int(counter) <= most, (copy, moments)
        assert sum == written
    # It is a volume as any other, and a copy of it is another one.
    (first, second) = copies
    attach(account, first, one.id)
    mount(one, first)
    changed = one.ssh(f"echo more >>/mnt/file; sync; {SUM}")
    third = copied(account, first)
    assert changed != written
    assert seen(account, third, two, SUM) == changed
    one.ssh("umount /mnt", timeout=120)
    detach(account, first)
    assert seen(account, second, two, SUM) == written
    assert not list(cloud.state.glob("hosts/*/*/*.copy")) + list(cloud.state.glob("hosts/*/*/*/*.copy"))
    cloud.wait_clean()


def test_a_copy_of_a_root_and_of_what_was_never_attached(pair):
    account, one, two = pair
    ec2 = account.ec2
    one.ssh("echo here >/root/mark; sync")
    (root,) = [m["Ebs"]["VolumeId"] for m in one.describe()["BlockDeviceMappings"]]
    copy = copied(account, root)
    attach(account, copy, two.id, "/dev/sdg")
    disk = wait_disk(two, copy)
    found = two.ssh(f"mkdir -p /mnt; for d in /dev/{disk} /dev/{disk}[0-9]*; do mount $d /mnt 2>/dev/null && break; done; "
                    "cat /mnt/root/mark; umount /mnt", timeout=120)  # fmt: skip
    assert found == "here"
    detach(account, copy)
    # Of nothing there is nothing; it can be deleted while it is being made, and its source too.
    empty = volumes.create(account, 2)
    (made,) = ec2.copy_volumes(SourceVolumeId=empty)["Volumes"]
    code, _ = error_of(ec2.copy_volumes, SourceVolumeId=empty, Size=1)
    assert (made["Size"], code) == (2, "InvalidParameterValue")
    ec2.delete_volume(VolumeId=made["VolumeId"])
    other = copied(account, empty)
    ec2.delete_volume(VolumeId=empty)
    with refused("InvalidVolume.NotFound"):
        ec2.copy_volumes(SourceVolumeId=empty)
    attach(account, other, two.id, "/dev/sdg")
    assert two.ssh(f"head -c 1000000 /dev/{wait_disk(two, other)} | tr -d '\\0' | wc -c") == "0"
    detach(account, other)
    account.cloud.wait_clean()

"""Disks of a launch with a real guest: it has them when it boots for the first time, an empty one and one of a snapshot,
and one of them outlives it, and so does its root."""

import pytest

from harness import volumes
from harness.ec2 import default_group
from harness.guest import Guest, launch, terminate
from harness.volumes import attach, detach, wait_completed, wait_disk, wait_free, wait_gone

pytestmark = pytest.mark.one_process

SUM = "sha256sum </mnt/file"
# Of the small image's disk.
ROOT_PARTITION = "2"

# What the first boot's user data finds: the disks' serial numbers.
LOOK = """#!/bin/sh
for b in /sys/block/vd*; do cat $b/serial; echo; done >/root/serials
"""


def mounted(guest: Guest, volume: str, command: str, partition: str = "") -> str:
    guest.ssh(f"mkdir -p /mnt && mount -t ext4 /dev/{wait_disk(guest, volume)}{partition} /mnt", timeout=120)
    try:
        return guest.ssh(command, timeout=120)
    finally:
        guest.ssh("sync; umount /mnt", timeout=120)


def test_a_guest_has_its_disks_at_its_first_boot(pair):
    account, one, two = pair
    cloud, ec2 = account.cloud, account.ec2
    source = volumes.create(account)
    attach(account, source, one.id)
    one.ssh(f"mkfs.ext4 -q /dev/{wait_disk(one, source)}", timeout=300)
    written = mounted(one, source, f"head -c 3000000 /dev/urandom >/mnt/file; {SUM}")
    snapshot = ec2.create_snapshot(VolumeId=source)["SnapshotId"]
    wait_completed(account, snapshot)
    detach(account, source)

    key_name = one.describe()["KeyName"]
    root = one.describe()["RootDeviceName"]
    (guest,) = launch(
        account,
        one.key,
        key_name,
        UserData=LOOK,
        SecurityGroupIds=[default_group(ec2)],
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3"}},
            {"DeviceName": "/dev/sdg", "Ebs": {"SnapshotId": snapshot, "DeleteOnTermination": False}},
            {"DeviceName": root, "Ebs": {"DeleteOnTermination": False}},
        ],
    )
    guest.wait_state("running")
    guest.wait_ssh()
    disks = {m["DeviceName"]: m["Ebs"]["VolumeId"] for m in guest.describe()["BlockDeviceMappings"]}
    empty, filled = disks["/dev/sdf"], disks["/dev/sdg"]
    serials = guest.ssh("cat /root/serials").split()
    assert {empty.replace("-", ""), filled.replace("-", "")} <= set(serials), serials
    ask = "imds latest/meta-data/block-device-mapping/%s"
    assert [guest.ssh(ask % name) for name in ("ebs1", "ebs2")] == ["sdf", "sdg"]
    assert guest.ssh(f"cat /sys/block/{wait_disk(guest, empty)}/size") == str((1 << 30) // 512)
    assert guest.ssh(f"head -c 1048576 /dev/{wait_disk(guest, empty)} | tr -d '\\0' | wc -c") == "0"
    assert mounted(guest, filled, SUM) == written

    on_root = guest.ssh("head -c 3000000 /dev/urandom >/root/file; sync; sha256sum </root/file")

    terminate(account, guest)
    wait_gone(account, empty)
    wait_free(account, filled)
    attach(account, filled, two.id)
    assert mounted(two, filled, SUM) == written
    detach(account, filled)
    # What was the root is a volume as any other: it has what the image had, and what the guest has made of it.
    kept = disks[root]
    wait_free(account, kept)
    attach(account, kept, two.id)
    assert mounted(two, kept, "sha256sum </mnt/root/file", ROOT_PARTITION) == on_root
    assert mounted(two, kept, "ls /mnt/sbin/init", ROOT_PARTITION) == "/mnt/sbin/init"
    detach(account, kept)
    taken = ec2.create_snapshot(VolumeId=kept)["SnapshotId"]
    wait_completed(account, taken)
    ec2.delete_volume(VolumeId=kept)
    wait_gone(account, kept)
    cloud.wait_clean()

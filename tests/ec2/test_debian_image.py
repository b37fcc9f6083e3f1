"""A stock Debian with unconfigured cloud-init and QEMU's agent: it finds out by itself that it is on EC2, does what it is
told, and holds its file systems still for snapshots. It boots once for all tests of this file."""

import json
import time

import pytest

from harness import agent, volumes
from harness.cloud import Account, Cloud
from harness.ec2 import FAST
from harness.guest import Guest, launch, shell_key, terminate
from harness.wait import until

USER_DATA = """#cloud-config
write_files:
  - path: /etc/proof
    content: written by cloud-init
runcmd:
  - [sh, -c, "echo ran >>/var/lib/runs"]
"""


@pytest.fixture(scope="module")
def debian(real_cloud: Cloud, debian_image, tmp_path_factory):
    """The guest, whose cloud-init has done its work."""
    key_folder = tmp_path_factory.mktemp("debian")
    key_folder.chmod(0o700)
    account = real_cloud.account()
    image = real_cloud.run("image", "import", "--name", "debian-12", "--account", account.id, str(debian_image))
    key = shell_key(account, key_folder)
    (guest,) = launch(account, key, "k", user="debian", ImageId=image, InstanceType="t2.micro", UserData=USER_DATA)
    guest.wait_console("login:", timeout=240)
    guest.wait_ssh(120)
    guest.ssh("cloud-init status --wait >/dev/null", check=False, timeout=240)
    yield guest
    terminate(account, guest)
    volumes.delete_all(account)
    volumes.delete_snapshots(account)
    real_cloud.wait_clean()


def test_debian_with_stock_cloud_init(debian: Guest):
    guest = debian
    seen = guest.describe()
    status = guest.ssh("cloud-init status --long", check=False)
    assert status.startswith("status: done\n") and "error" not in status.lower(), status
    # Each stage by itself, and what was only warned of (later versions call it a recoverable error).
    stages = json.loads(guest.ssh("sudo cat /run/cloud-init/status.json"))["v1"]
    assert {name: stage["errors"] for name, stage in stages.items() if isinstance(stage, dict) and stage["errors"]} == {}
    warned = guest.ssh(r"sudo grep -E '\[(WARNING|ERROR|CRITICAL)\]: ' /var/log/cloud-init.log || true")
    assert warned == "", warned
    assert guest.ssh("cat /etc/default/locale") == "LANG=C.UTF-8"
    assert guest.ssh("cloud-id") == "aws"
    datasource = guest.ssh("sudo cat /run/cloud-init/result.json")
    assert "DataSourceEc2" in datasource and '"errors": []' in datasource
    assert guest.ssh("hostname") == seen["PrivateDnsName"].split(".")[0]
    assert guest.ssh("cat /etc/proof") == "written by cloud-init" and guest.ssh("cat /var/lib/runs") == "ran"
    assert seen["PrivateIpAddress"] in guest.ssh("ip -4 -o addr")
    assert guest.ssh("curl --version >/dev/null 2>&1; sudo cloud-init query instance_id") == guest.id
    volumes_have_their_links(guest.account, guest)


def volumes_have_their_links(account: Account, guest: Guest) -> None:
    """As the node's side of Kubernetes' EBS driver looks for them: by link and by serial number."""
    (root,) = [mapping["Ebs"]["VolumeId"] for mapping in guest.describe()["BlockDeviceMappings"]]
    by_id = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_"

    def link(volume: str, part: str = "") -> str:
        return guest.ssh(f"readlink -f {by_id}{volume.replace('-', '')}{part}")

    assert (link(root), link(root, "-part2")) == ("/dev/vda", "/dev/vda2")
    volume = volumes.create(account)
    volumes.attach(account, volume, guest.id, "/dev/xvdaa")
    disk = "/dev/" + volumes.wait_disk(guest, volume)
    until(lambda: link(volume) == disk, f"{volume} has its link", 30, every=0.5)
    assert guest.ssh(f"lsblk -dno SERIAL {disk}") == volume.replace("-", "")
    volumes.detach(account, volume)
    until(lambda: guest.ssh(f"ls {by_id}* | grep -c {volume.replace('-', '')} || true") == "0", "its link is gone", 30)


# Each line is written to the disk by itself; where it can't be, the next one is not.
WRITES = "i=0; while :; do i=$((i+1)); echo $i >>/mnt/lines; sync /mnt/lines; done"


def has_to_recover(guest: Guest, disk: str) -> bool:
    """Whether an ext4's journal has what its other blocks don't have yet, as after a loss of power."""
    return "needs_recovery" in guest.ssh(f"sudo dumpe2fs -h /dev/{disk} 2>/dev/null | grep ^Filesystem.features", timeout=120)


def lines(guest: Guest) -> int:
    return int(guest.ssh("tail -n 1 /mnt/lines"))


def snapshot_has_to_recover(guest: Guest, snapshot: str) -> bool:
    """The same of a snapshot, which is whole in any case."""
    account = guest.account
    zone = volumes.zone(account)
    volume = account.ec2.create_volume(AvailabilityZone=zone, SnapshotId=snapshot, VolumeType="gp3")["VolumeId"]
    account.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=FAST)
    volumes.attach(account, volume, guest.id, "/dev/sdg")
    disk = volumes.wait_disk(guest, volume)
    seen = has_to_recover(guest, disk)
    guest.ssh(f"sudo e2fsck -p /dev/{disk}; [ $? -le 1 ] && sudo e2fsck -fn /dev/{disk}", timeout=120)
    volumes.detach(account, volume)
    return seen


@pytest.fixture(scope="module")
def writer(debian: Guest):
    """The guest, which writes to an ext4 on a volume, and the volume."""
    volume = volumes.create(debian.account)
    volumes.attach(debian.account, volume, debian.id, "/dev/sdf")
    disk = volumes.wait_disk(debian, volume)
    debian.ssh(f"sudo mkfs.ext4 -q /dev/{disk} && sudo mount /dev/{disk} /mnt && sudo chmod 777 /mnt", timeout=300)
    debian.ssh(f"sudo systemd-run -q --unit writes sh -c '{WRITES}'")
    until(lambda: lines(debian) > 0, "it writes", 60)
    assert has_to_recover(debian, disk)
    yield debian, volume
    debian.ssh("sudo systemctl stop writes; sudo umount /mnt", timeout=120)
    volumes.detach(debian.account, volume)


def take(guest: Guest, volume: str) -> str:
    snapshot = guest.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    volumes.wait_completed(guest.account, snapshot)
    return snapshot


def test_file_systems_are_still_in_a_snapshot_where_an_agent_answers(writer):
    guest, volume = writer
    cloud = guest.cloud
    until(lambda: agent.frozen(guest) is False, "the agent answers", 60)
    quiesced = take(guest, volume)
    ((count, ms),) = agent.freezes(cloud, guest)
    print(f"{count} file systems were frozen for {ms} ms at the most")
    assert count >= 2 and agent.frozen(guest) is False
    before = lines(guest)
    until(lambda: lines(guest) > before, "it goes on writing", 30)
    assert not snapshot_has_to_recover(guest, quiesced)

    # Without one, and with one that hangs, it is as after a loss of power, and taken all the same.
    guest.ssh("sudo systemctl stop qemu-guest-agent")
    assert snapshot_has_to_recover(guest, take(guest, volume))
    guest.ssh("sudo systemctl start qemu-guest-agent")
    until(lambda: agent.frozen(guest) is False, "the agent answers again", 60)
    guest.ssh("sudo systemctl kill -s STOP qemu-guest-agent")
    take(guest, volume)
    guest.ssh("sudo systemctl kill -s CONT qemu-guest-agent")
    assert len(agent.freezes(cloud, guest)) == 1 and len(agent.failures(cloud, guest)) == 1


HOOK = """#!/bin/sh
echo $1 >>/dev/shm/hooks
[ "$1" != freeze ] || sleep 6
"""


def test_a_guest_that_a_killed_process_has_left_frozen_is_thawed(writer):
    """With hooks, as a database's administrator has them on Debian."""
    guest, volume = writer
    cloud = guest.cloud
    conf = "[general]\nfsfreeze-hook=/etc/qemu/fsfreeze-hook\n"
    guest.ssh(f"printf '{conf}' | sudo tee /etc/qemu/qemu-ga.conf")
    guest.ssh(f"printf '%s' '{HOOK}' | sudo tee /etc/qemu/fsfreeze-hook.d/slow && sudo chmod 755 /etc/qemu/fsfreeze-hook.d/slow")
    guest.ssh("sudo systemctl restart qemu-guest-agent")
    until(lambda: agent.frozen(guest) is False, "the agent answers", 60)
    snapshot = guest.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    until(lambda: guest.ssh("cat /dev/shm/hooks || true") == "freeze", "its hooks run", 30)
    cloud.kill()
    until(lambda: agent.frozen(guest), "it is frozen, and nobody is there who thaws it", 30)
    cloud.start()
    began = time.monotonic()
    until(lambda: agent.frozen(guest) is False, "it is thawed", 30)
    print(f"thawed {time.monotonic() - began:.1f} s after the start")
    before = lines(guest)
    until(lambda: lines(guest) > before, "it goes on writing", 30)
    # What was begun is done again, with the hooks.
    volumes.wait_completed(guest.account, snapshot)
    assert not snapshot_has_to_recover(guest, snapshot)
    assert agent.frozen(guest) is False
    assert guest.ssh("cat /dev/shm/hooks").split()[:3] == ["freeze", "thaw", "freeze"]

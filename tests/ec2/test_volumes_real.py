"""Volumes with real guests: a file system that moves from one guest to another, and what outlives what."""

import pytest

from harness import volumes
from harness.cloud import Account, Cloud
from harness.ec2 import FAST, default_group, refused
from harness.guest import Guest, allow, launch, ssh_key, terminate
from harness.volumes import attach, describe, detach, disk_in, wait_attached, wait_disk, wait_free, wait_gone

pytestmark = pytest.mark.one_process


def mounted(guest: Guest, volume: str, command: str, options: str = "rw") -> str:
    """What a command says while the volume is mounted on /mnt."""
    disk = wait_disk(guest, volume)
    guest.ssh(f"mkdir -p /mnt && mount -t ext4 -o {options} /dev/{disk} /mnt", timeout=120)
    try:
        return guest.ssh(command, timeout=120)
    finally:
        guest.ssh("sync; umount /mnt", timeout=120)


SUM = "sha256sum </mnt/file"


def start_again(account: Account, guest: Guest) -> None:
    """A stop and a start, up to a shell."""
    stop(account, guest)
    account.ec2.start_instances(InstanceIds=[guest.id])
    guest.wait_state("running")
    guest.wait_ssh()


def stop(account: Account, guest: Guest) -> None:
    guest.hang_up()
    account.ec2.stop_instances(InstanceIds=[guest.id])
    guest.wait_state("stopped")


@pytest.fixture
def pair(real_cloud: Cloud, key_folder):
    """Two guests with a shell, and their account."""
    account = real_cloud.account()
    key, public = ssh_key(key_folder)
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    allow(account, default_group(account.ec2), "tcp", (22, 22))
    one, two = launch(account, key, "k", 2)
    yield account, one.wait_ssh(), two.wait_ssh()
    left = [guest for guest in (one, two) if guest.state != "terminated"]
    if left:
        terminate(account, *left)
    volumes.delete_all(account)


def test_a_file_system_moves_to_another_guest(pair):
    account, one, two = pair
    cloud, ec2 = account.cloud, account.ec2

    def aws(*words: str):
        return cloud.aws("ec2", *words, key=account.key)

    # With the AWS CLI: made, attached to one that runs, and there for the guest by its serial number.
    volume = aws("create-volume", "--availability-zone", volumes.zone(account), "--size", "1")["VolumeId"]
    aws("wait", "volume-available", "--volume-ids", volume)
    made = aws("attach-volume", "--volume-id", volume, "--instance-id", one.id, "--device", "/dev/sdf")
    assert made["State"] == "attaching"
    aws("wait", "volume-in-use", "--volume-ids", volume)
    wait_attached(account, volume, one.id)
    (mapping,) = [m for m in one.describe()["BlockDeviceMappings"] if m["DeviceName"] == "/dev/sdf"]
    assert (mapping["Ebs"]["VolumeId"], mapping["Ebs"]["Status"]) == (volume, "attached")
    disk = wait_disk(one, volume)
    assert one.ssh(f"cat /sys/block/{disk}/size") == str((1 << 30) // 512)
    one.ssh(f"mkfs.ext4 -q /dev/{disk}", timeout=300)
    written = mounted(one, volume, f"head -c 3000000 /dev/urandom >/mnt/file; {SUM}")
    assert len(written.split()[0]) == 64

    # It moves, and the file with it.
    assert ec2.detach_volume(VolumeId=volume)["State"] == "detaching"
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=FAST)
    assert disk_in(one, volume) == "" and describe(account, volume)["Attachments"] == []
    attach(account, volume, two.id)
    assert mounted(two, volume, SUM, "ro") == written
    cloud.wait_clean()

    # A stop and a start with it; a detach while it is stopped; a start without it.
    start_again(account, two)
    assert mounted(two, volume, SUM, "ro") == written
    stop(account, two)
    assert describe(account, volume)["State"] == "in-use"
    detach(account, volume)
    cloud.wait_clean()
    ec2.start_instances(InstanceIds=[two.id])
    two.wait_state("running")
    two.wait_ssh()
    assert disk_in(two, volume) == ""

    # It outlives an instance that it is attached to, and not its own deletion.
    attach(account, volume, one.id)
    with refused("VolumeInUse"):
        ec2.delete_volume(VolumeId=volume)
    terminate(account, one)
    wait_free(account, volume)
    attach(account, volume, two.id, "/dev/sdg")
    assert mounted(two, volume, SUM, "ro") == written
    detach(account, volume)
    (file,) = [path for path in volumes.files(cloud) if path.stem == volume]
    ec2.delete_volume(VolumeId=volume)
    wait_gone(account, volume)
    assert not file.exists()
    cloud.wait_clean()


def test_a_volume_whose_file_is_gone_is_an_error_and_no_empty_disk(pair):
    """And the audit says what to do, also of a file that nobody knows."""
    account, one, _ = pair
    cloud = account.cloud
    volume = volumes.create(account)
    attach(account, volume, one.id)
    detach(account, volume)
    (file,) = [path for path in volumes.files(cloud) if path.stem == volume]
    away = file.with_name("vol-0123456789abcdef0.qcow2")
    file.rename(away)
    found = cloud.audit()["differences"]
    assert len(found) == 2, found
    assert any(volume in line and "put volumes/" in line for line in found), found
    assert any(away.stem in line and "no volume of the database" in line for line in found), found
    account.ec2.attach_volume(VolumeId=volume, InstanceId=one.id, Device="/dev/sdf")
    wait_free(account, volume, 180)
    assert not file.exists() and disk_in(one, volume) == ""
    away.rename(file)
    cloud.wait_clean()
    attach(account, volume, one.id)
    wait_disk(one, volume)
    detach(account, volume)

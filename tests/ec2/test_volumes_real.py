"""Volumes with real guests: a file system that moves from one guest to another, and what outlives what."""

import string
import subprocess

import pytest

from harness import volumes
from harness.cloud import Account
from harness.ec2 import FAST, refused
from harness.guest import Guest, terminate
from harness.volumes import attach, describe, detach, disk_in, mounted, wait_attached, wait_disk, wait_free, wait_gone
from harness.wait import until

pytestmark = pytest.mark.one_process


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


def places(guest: Guest) -> dict[str, tuple[str, str]]:
    """By serial number, what the guest calls each disk and where on its PCI buses that is."""
    look = 'for b in /sys/block/vd*; do echo "$(cat $b/serial) ${b##*/} $(readlink -f $b)"; done'
    lines = [line.split() for line in guest.ssh(look).splitlines()]
    return {serial: (name, path.partition("/virtio")[0]) for serial, name, path in lines}


def test_a_guest_has_as_many_disks_as_on_ec2_and_each_stays_where_it_is(pair):
    """While it runs, and over a stop and a start, also where one has gone and another has come."""
    account, one, _ = pair
    device = [f"/dev/xvd{a}{b}" for a in "ab" for b in string.ascii_lowercase]
    made = [volumes.create(account) for _ in range(28)]
    for volume, name in zip(made[:27], device):
        account.ec2.attach_volume(VolumeId=volume, InstanceId=one.id, Device=name)
    with refused("AttachmentLimitExceeded"):
        account.ec2.attach_volume(VolumeId=made[27], InstanceId=one.id, Device="/dev/sdf")
    for volume, name in zip(made[:27], device):
        wait_attached(account, volume, one.id)
        assert [a["Device"] for a in describe(account, volume)["Attachments"]] == [name]
    serials = {volume.replace("-", "") for volume in made[:27]}
    until(lambda: serials <= places(one).keys(), "the guest sees all of them", 60, every=0.5)
    before = places(one)
    assert len({path for _, path in before.values()}) == 28
    start_again(account, one)
    assert places(one) == before

    detach(account, made[3])
    attach(account, made[27], one.id, "/dev/sdf")
    wait_disk(one, made[27])
    before = places(one)
    start_again(account, one)
    assert places(one) == before


def test_a_volume_is_as_fast_as_its_type_and_no_faster(pair):
    """Within 15 % of EC2's figures, in reads and writes a second and in bytes, where the host is faster."""
    account, one, _ = pair
    for kind, device, more, rates in [
        ("standard", "/dev/sdf", {}, [("4k", 500, 100)]),
        # 256 KiB for each: 50 MiB a second.
        ("io1", "/dev/sdg", {"Iops": 200}, [("4k", 800, 200), ("1M", 250, 50)]),
    ]:
        volume = volumes.create(account, 4, VolumeType=kind, **more)
        attach(account, volume, one.id, device)
        disk = wait_disk(one, volume)
        for size, count, rate in rates:
            for ends in (f"if=/dev/{disk} of=/dev/null iflag=direct", f"if=/dev/zero of=/dev/{disk} oflag=direct"):
                # Never faster, and as fast in one of a few tries: the tests beside this one take of the host, too.
                for _ in range(5):
                    # What it has saved up, a tenth of a second's, is spent first.
                    one.ssh(f"dd {ends} bs={size} count={rate // 5} status=none", timeout=120)
                    reached = count / one.seconds(f"dd {ends} bs={size} count={count} status=none")
                    assert reached < rate * 1.15, (kind, ends, size, reached, rate)
                    if reached > rate * 0.85:
                        break
                else:
                    raise AssertionError((kind, ends, size, reached, rate))
        detach(account, volume)


def throttle(id: str, disk: str) -> dict[str, int]:
    """What a guest's disk may do in a second, as its process has it."""
    said = subprocess.run(
        ["virsh", "-q", "-c", "qemu:///system", "blkdeviotune", id, disk], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.split(":") for line in said.splitlines() if ":" in line]
    return {name.strip(): int(value) for name, value in lines if value.strip().isdigit()}


def test_a_guest_sees_its_disks_grow(pair):
    """The one that it starts from and another one, while it runs; and what has grown while it was attached to nothing."""
    account, one, two = pair
    cloud, ec2 = account.cloud, account.ec2

    def sectors(disk: str) -> int:
        return int(one.ssh(f"cat /sys/block/{disk}/size"))

    def wait_gib(disk: str, gib: int) -> None:
        until(lambda: sectors(disk) == (gib << 30) // 512, f"{disk} is of {gib} GiB", 30, every=0.2)

    volume = volumes.create(account, VolumeType="gp3")
    attach(account, volume, one.id)
    disk = wait_disk(one, volume)
    one.ssh(f"mkfs.ext4 -q /dev/{disk}", timeout=300)
    written = mounted(one, volume, f"head -c 3000000 /dev/urandom >/mnt/file; {SUM}")
    begun = ec2.modify_volume(VolumeId=volume, Size=2, Throughput=200)["VolumeModification"]
    assert (begun["ModificationState"], begun["OriginalSize"], begun["TargetSize"]) == ("modifying", 1, 2)
    done = volumes.wait_modified(account, volume)
    assert (done["Progress"], done["TargetIops"], done["TargetThroughput"]) == (100, 3000, 200)
    wait_gib(disk, 2)
    # (Its name on the bus; the guest counts its own.)
    assert throttle(one.id, "vdf")["total_bytes_sec"] == 200 << 20
    assert mounted(one, volume, SUM, "ro") == written
    shown = describe(account, volume)
    assert (shown["Size"], shown["Iops"], shown["Throughput"]) == (2, 3000, 200)

    # The one that it starts from, by the AWS CLI; it says so after a stop and a start as well.
    (root,) = [m["Ebs"]["VolumeId"] for m in one.describe()["BlockDeviceMappings"] if m["Ebs"]["VolumeId"] != volume]
    gib = describe(account, root)["Size"]
    cloud.aws("ec2", "modify-volume", "--volume-id", root, "--size", str(gib + 1), key=account.key)
    volumes.wait_modified(account, root)
    wait_gib("vda", gib + 1)
    cloud.wait_clean()

    # Detached, it grows with its next guest, which runs; stopped, with the next start.
    detach(account, volume)
    ec2.modify_volume(VolumeId=volume, Size=3)
    volumes.wait_modified(account, volume)
    attach(account, volume, one.id)
    wait_gib(wait_disk(one, volume), 3)
    stop(account, one)
    for id, size in ((volume, 4), (root, gib + 2)):
        ec2.modify_volume(VolumeId=id, Size=size)
        volumes.wait_modified(account, id)
    ec2.start_instances(InstanceIds=[one.id])
    one.wait_state("running")
    one.wait_ssh()
    wait_gib(wait_disk(one, volume), 4)
    wait_gib("vda", gib + 2)
    assert mounted(one, volume, SUM, "ro") == written
    with refused("InvalidParameterValue"):
        ec2.modify_volume(VolumeId=volume, Size=3)
    detach(account, volume)
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

"""The same with real guests, at the steps where something real is half done, and at every one of an attach and a detach;
and a guest that runs through it all."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from harness import host, volumes
from harness.cloud import Account, Cloud
from harness.crash import BEFORE, deaths, dies, points, points_of, settled, step_of
from harness.ec2 import instances, wait
from harness.guest import TINY_READY, Guest, launch, reachable, shell_key, terminate
from harness.wait import until

# Short, so that a guest that has not booted yet and does not listen costs little.
CONFIG = "[libvirt]\nstop_grace = 10\n"

# Steps that leave something real behind, beside those that only real hosts have.
LAUNCH = ("kept", "tap", "defined", "firewall", "started")
START = ("tap", "firewall")
STOP = ("off", "network")
REBOOT = ("begun", "reset")
TERMINATE = ("received", "absent", "network", "tombstone", "reported")
# Those that only an end comes to which leaves the root.
KEPT = ("flattened", "moved")


def those(operation: str, steps: tuple[str, ...]) -> list[str]:
    chosen = points_of(operation, real=True)
    chosen += [point for point in points_of(operation) if step_of(point) in steps]
    return sorted(chosen, key=points().index)


@pytest.fixture
def cloud(real):
    with Cloud("libvirt", CONFIG) as cloud:
        yield cloud


class Untouched:
    """A guest that must not notice anything: same boot, same connection to the metadata, same description."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest.wait_ssh()
        self.boot, self.uptime, _ = self._look()
        self.before = guest.describe()

    def _look(self) -> tuple[str, float, str]:
        """Over a connection of its own, since an old one would hide a lost network."""
        self.guest.hang_up()
        look = "cat /proc/sys/kernel/random/boot_id /proc/uptime; imds latest/meta-data/instance-id"
        boot, uptime, id = self.guest.ssh(look).splitlines()
        return boot, float(uptime.split()[0]), id

    def check(self) -> None:
        boot, uptime, id = self._look()
        assert (boot, id) == (self.boot, self.guest.id) and uptime > self.uptime
        self.uptime = uptime
        assert self.guest.describe() == self.before


def test_a_guest_runs_through_every_death(cloud: Cloud, key_folder: Path):
    account = cloud.first_account()
    key = shell_key(account, key_folder)
    (guest,) = launch(account, key, "k")
    witness = Untouched(guest)

    for point in those("launch", LAUNCH):
        dies(cloud, point, lambda: launch(account, key, "k"))
        settled(account, {"running", "terminated"})
        witness.check()
    cloud.wait_clean()
    guests = [i["InstanceId"] for i in instances(account.ec2) if i["State"]["Name"] == "running"]
    others = [id for id in guests if id != guest.id]
    assert len(others) == len(those("launch", LAUNCH)), "every launch that was accepted has got through"
    ends = those("terminate", TERMINATE)
    if len(others) < len(ends):
        more = launch(account, key, "k", len(ends) - len(others))
        wait(account, [one.id for one in more], "running")
        others += [one.id for one in more]

    # While the process is away, guests and their packets go on.
    cloud.process.send_signal(signal.SIGKILL)
    cloud.wait_death()
    assert reachable(witness.before["PublicIpAddress"], 22)
    cloud.start()

    for point, id in zip(ends, others):
        root = volumes.keep_root(account, id) if step_of(point) in KEPT else None
        dies(cloud, point, lambda: account.ec2.terminate_instances(InstanceIds=[id]))
        settled(account, {"running", "terminated"})
        witness.check()
        if root:
            volumes.wait_free(account, root)
            (file,) = [file for file in volumes.files(cloud) if root in file.name]
            told = subprocess.run(["qemu-img", "info", "--output", "json", file], capture_output=True, check=True).stdout
            assert "backing-filename" not in json.loads(told), "it lies over nothing"
    cloud.wait_clean()
    volumes.delete_all(account)
    terminate(account, guest)
    cloud.wait_clean()


def test_a_guest_is_stopped_started_and_reset_through_deaths(cloud: Cloud, key_folder: Path):
    """Its disk and its address are its own all the time."""
    account = cloud.first_account()
    ec2 = account.ec2
    key = shell_key(account, key_folder)
    first, second = launch(account, key, "k", 2)
    witness = Untouched(first)
    second.wait_ssh()
    second.ssh("echo kept > /root/mark && sync")
    second.hang_up()
    address = second.private
    for stop, start in zip(those("stop", STOP), those("start", START[:1])):
        dies(cloud, stop, lambda: ec2.stop_instances(InstanceIds=[second.id]))
        second.wait_state("stopped")
        dies(cloud, start, lambda: ec2.start_instances(InstanceIds=[second.id]))
        second.wait_state("running")
        witness.check()
    for point in those("start", START)[2:]:
        ec2.stop_instances(InstanceIds=[second.id])
        wait(account, [second.id], "stopped")
        dies(cloud, point, lambda: ec2.start_instances(InstanceIds=[second.id]))
        second.wait_state("running")
        witness.check()
    second.wait_console(TINY_READY)
    for point in those("reboot", REBOOT):
        boots = second.console().count(TINY_READY)
        dies(cloud, point, lambda: ec2.reboot_instances(InstanceIds=[second.id]))
        second.wait_console(TINY_READY, boots + 1)
        assert second.state == "running"
        witness.check()
    second.wait_ssh()
    assert second.ssh("cat /root/mark") == "kept"
    assert second.private == address
    second.hang_up()
    cloud.wait_clean()


def process_of(guest: Guest) -> str:
    """The number of the guest's process."""
    return host.command("pgrep", "-f", f"guest={guest.id},").strip()


def look(guest: Guest, volume: str) -> list[str]:
    """Over a connection of its own: the guest's boot, how many of its disks are the volume and, if one is, the sum of the
    file that is on it."""
    serial = volume.replace("-", "")
    words = [
        "cat /proc/sys/kernel/random/boot_id",
        f'disks=$(for b in /sys/block/vd*; do [ "$(cat $b/serial)" = {serial} ] && echo /dev/${{b##*/}}; done)',
        "echo $disks | wc -w",
        '[ -z "$disks" ] || { mount -t ext4 -o ro $disks /mnt && sha256sum </mnt/file; umount /mnt; }',
    ]
    return guest.ssh("; ".join(words), timeout=120).splitlines()


def wait_seen(guest: Guest, volume: str, expected: list[str]) -> None:
    """A guest takes a moment to find a disk."""

    def as_expected() -> bool:
        seen = look(guest, volume)
        assert seen == expected, seen
        return True

    until(as_expected, f"{guest.id} has of {volume}: {expected}", 30)


def with_a_file(account: Account, guest: Guest) -> tuple[str, list[str]]:
    """A volume that is attached to a guest, a file in its file system, and what `look` says then."""
    volume = volumes.create(account)
    volumes.attach(account, volume, guest.id)
    disk = volumes.wait_disk(guest, volume)
    guest.ssh(f"mkfs.ext4 -q /dev/{disk}", timeout=300)
    volumes.mount(guest, volume)
    guest.ssh("head -c 3000000 /dev/urandom >/mnt/file && umount /mnt", timeout=120)
    seen = look(guest, volume)
    assert len(seen) == 3 and seen[1] == "1" and len(seen[2].split()[0]) == 64, seen
    return volume, seen


def test_a_volume_comes_and_goes_through_every_death(cloud: Cloud, key_folder: Path):
    """An attach and a detach in turns, and in each the process dies, at one point after the other. What was asked for is
    done once it is back, without being asked again; the guest has the volume once, with what is on it, or not at all, and
    is the same guest."""
    account = cloud.first_account()
    ec2 = account.ec2
    (guest,) = launch(account, shell_key(account, key_folder), "k")
    witness, process = Untouched(guest), process_of(guest)
    volume, there = with_a_file(account, guest)
    gone = [there[0], "0"]
    volumes.detach(account, volume)
    wait_seen(guest, volume, gone)
    asks = {
        "attach-volume": lambda: ec2.attach_volume(VolumeId=volume, InstanceId=guest.id, Device="/dev/sdf"),
        "detach-volume": lambda: ec2.detach_volume(VolumeId=volume),
    }
    every = [[point for point in points() if point.startswith(f"{operation}.")] for operation in asks]
    assert len(every[0]) > 15, every
    turns = [point for both in zip(*every, strict=True) for point in both]

    def ask(point: str) -> object:
        return asks[point.split(".")[0]]()

    for point in deaths(cloud, turns, ask):
        attaches = point.startswith("attach-volume.")
        if step_of(point) in BEFORE:
            before = None if attaches else (guest.id, "attached")
            assert volumes.attached_to(account, volume) == before, f"{point}: nothing has happened"
            ask(point)
        if attaches:
            volumes.wait_attached(account, volume, guest.id)
            assert len(volumes.describe(account, volume)["Attachments"]) == 1, point
        else:
            volumes.wait_free(account, volume)
            assert guest.describe() == witness.before, point
        wait_seen(guest, volume, there if attaches else gone)
        assert process_of(guest) == process, point
        cloud.wait_clean()
    witness.check()
    assert guest.console().count(TINY_READY) == 1, "it was booted once"
    volumes.delete_all(account)
    cloud.wait_clean()

"""The same with real guests, at the steps where something real is half done; and a guest that runs through it all."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from harness import volumes
from harness.cloud import Cloud
from harness.crash import dies, points, points_of, settled, step_of
from harness.ec2 import instances, wait
from harness.guest import TINY_READY, Guest, launch, reachable, shell_key, terminate

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

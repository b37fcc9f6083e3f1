"""Volumes, snapshots and images after an upgrade: what nothing was done with is as it was, what was under way ends, and
all of it can be used. `storage_before` has made them."""

import json

from . import blocks, volumes
from .cloud import Account
from .ec2 import FAST, running, wait
from .site import Site
from .wait import until

SMALL = {"InstanceType": "t2.nano"}
# What is written to volumes before one snapshot and the next (`blocks.Mark`).
FIRST, SECOND = (1, 0x51), (7, 0x52)


def steady(shown: dict) -> dict:
    """A description without its times, as JSON has it."""

    def of(value):
        if isinstance(value, dict):
            return {key: of(each) for key, each in value.items() if not key.endswith(("Time", "Date"))}
        return [of(each) for each in value] if isinstance(value, list) else value

    return json.loads(json.dumps(of(shown), default=str))


def differences(was: object, now: object, at: str = "") -> list[str]:
    """What is not as it was; what is new beside it is none."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [line for key, each in was.items() for line in differences(each, now.get(key), f"{at}.{key}")]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return [line for n, (one, other) in enumerate(zip(was, now)) for line in differences(one, other, f"{at}.{n}")]
    return [] if was == now else [f"{at}: {was!r} has become {now!r}"]


class Storage:
    """What a fixture's manifest says of them. Fixtures of before there was any have nothing."""

    def __init__(self, cloud: Site, account: Account, manifest: dict) -> None:
        self.cloud, self.account = cloud, account
        self.is_there = "storage" in manifest
        self.kept = manifest.get("storage", {})
        hosts = {host.name: host.machine for host in cloud.hosts}
        self.guests = {
            id: hosts[guest["host"]] for id, guest in manifest["guests"].items() if id not in self.kept.get("changing", [])
        }
        self.disks = self._disks()

    def _disks(self) -> dict[str, list[str]]:
        return {id: blocks.files(machine, id) for id, machine in self.guests.items()}

    # ---- what was under way

    def _volume(self, id: str) -> str:
        return volumes.state(self.account, id)

    def _now(self) -> dict[str, dict[str, str]]:
        """How things are with which something was under way."""
        ec2, ends = self.account.ec2, self.kept["ends"]
        snapshots = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        images = ec2.describe_images(Owners=["self"])["Images"]
        states = {s["SnapshotId"]: s["State"] for s in snapshots} | {i["ImageId"]: i["State"] for i in images}
        return {
            "volumes": {id: self._volume(id) for id in ends["volumes"]},
            "snapshots": {id: states[id] for id in ends["snapshots"]},
            "images": {id: states[id] for id in ends["images"]},
            "modified": {id: volumes.modification(self.account, id)["ModificationState"] for id in ends["modified"]},
        }

    def ended(self) -> bool:
        """All that was under way has ended as it should."""
        return not self.is_there or not (differ := differences(self.kept["ends"], self._now())) or self._fail(differ)

    @staticmethod
    def _fail(differ: list[str]) -> bool:
        raise AssertionError("; ".join(differ))

    # ---- what has to be true

    def untouched(self) -> None:
        """Guests have the disks that they had."""
        assert self._disks() == self.disks

    def tidy(self) -> None:
        """Nothing of what was under way lies about."""
        left = [path for host in self.cloud.hosts for end in ("copy", "new") for path in host.state.glob(f"hosts/*/*/**/*.{end}")]
        assert not [path for path in left if "vpcs" not in path.parts], left

    def described(self) -> None:
        """What nothing was done with is described as before, and has what was written to it."""
        if not self.is_there:
            return
        ec2, kinds = self.account.ec2, (("volumes", "VolumeId"), ("snapshots", "SnapshotId"), ("images", "ImageId"))
        now = {
            "volumes": ec2.describe_volumes()["Volumes"],
            "snapshots": ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"],
            "images": ec2.describe_images(Owners=["self"])["Images"],
        }
        now = {kind: {each[name]: steady(each) for each in now[kind]} for kind, name in kinds}
        assert differences(self.kept["seen"], now) == []
        assert all(now["volumes"][id]["Size"] == 2 for id in self.kept["ends"]["modified"])
        for id, marks in self.kept["marks"].items():
            if id != self.kept["used"]["later"]:
                self._has(id, *marks)

    def _has(self, volume: str, *marks: blocks.Mark) -> None:
        path = blocks.volume(self.cloud.hosts, volume)
        assert all(blocks.holds(path, mark) for mark in marks), f"{volume} has lost what was written to it"

    def works(self) -> None:
        """Volumes of before come to guests of before and go again, volumes are made of snapshots of before, and an
        instance of an image."""
        if not self.is_there:
            return
        account, ec2, used = self.account, self.account.ec2, self.kept["used"]
        for volume, marks in ((used["later"], [FIRST]), (used["free"], [FIRST])):
            self._comes_and_goes(volume, marks)
        for snapshot, marks in ((used["copy"], [FIRST, SECOND]), (self._taken(), [FIRST])):
            made = ec2.create_volume(AvailabilityZone=volumes.zone(account), SnapshotId=snapshot)["VolumeId"]
            ec2.get_waiter("volume_available").wait(VolumeIds=[made], WaiterConfig=FAST)
            self._comes_and_goes(made, marks)
        again = ec2.create_snapshot(VolumeId=used["volume"])["SnapshotId"]
        self._image(used["image"])
        volumes.wait_completed(account, again)
        for snapshot in (used["first"], again):
            ec2.delete_snapshot(SnapshotId=snapshot)
        ec2.delete_volume(VolumeId=used["free"])
        volumes.wait_gone(account, used["free"])

    def _taken(self) -> str:
        """The snapshot of a volume with a mark that was under way."""
        taken = self.account.ec2.describe_snapshots(SnapshotIds=list(self.kept["ends"]["snapshots"]))["Snapshots"]
        (found,) = [each["SnapshotId"] for each in taken if each["VolumeId"] in self.kept["marks"]]
        return found

    def _comes_and_goes(self, volume: str, marks: list[blocks.Mark]) -> None:
        """To a guest of the host that has it, if there is one."""
        machines = [host.machine for host in self.cloud.hosts if list(host.state.glob(f"hosts/*/volumes/{volume}*"))]
        guest, machine = next((id, each) for id, each in self.guests.items() if each in machines or not machines)
        volumes.attach(self.account, volume, guest, "/dev/sdi")
        self._has(volume, *marks)
        assert any(volume in file for file in blocks.files(machine, guest)), f"{guest} has {volume}"
        volumes.detach(self.account, volume)

    def _image(self, image: str) -> None:
        (made,) = running(self.account, 1, **SMALL, ImageId=image)
        assert blocks.holds(blocks.root(self.cloud.hosts, made), FIRST)
        self.account.ec2.terminate_instances(InstanceIds=[made])
        wait(self.account, [made], "terminated")

    def end_of(self, guest: str) -> None:
        """A guest that had its disks from the beginning has ended: one went with it."""
        if self.is_there:
            until(lambda: self._volume(self.kept["used"]["goes"]) == "gone", "a volume goes with its instance", 60)
            volumes.wait_free(self.account, self.kept["used"]["stays"])
            self._has(self.kept["used"]["stays"], FIRST)
        self.guests.pop(guest, None)
        self.disks.pop(guest, None)

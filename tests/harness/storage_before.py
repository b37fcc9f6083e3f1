"""Volumes, snapshots and images of a cloud before an upgrade: those that are to be as they were, and those with which
something is under way. `storage_after` has what is to be true of them."""

import subprocess
from collections.abc import Callable

from . import blocks, volumes
from .cloud import Account
from .ec2 import FAST, instance, running
from .site import Site
from .storage_after import FIRST, SECOND, SMALL, steady


def tagged(kind: str) -> dict:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": [{"Key": "of", "Value": "before"}]}]}


class Storage:
    """What is made, and what the manifest is told is to become of it."""

    def __init__(self, cloud: Site, account: Account) -> None:
        self.cloud, self.account, self.ec2 = cloud, account, account.ec2
        # What volumes have, and what is to become of things with which something is under way.
        self.marks: dict[str, list[blocks.Mark]] = {}
        self.ends: dict[str, dict[str, str]] = {"volumes": {}, "snapshots": {}, "images": {}, "modified": {}}
        # Guests whose disks change with what is under way.
        self.changing: list[str] = []
        self.used: dict[str, object] = {}

    # ---- what is there

    def volume(self, guest: str, *marks: blocks.Mark, device: str = "/dev/sdf", **more) -> str:
        """A volume of a guest that runs, and what is written to it."""
        made = volumes.create(self.account, **more)
        volumes.attach(self.account, made, guest, device)
        for mark in marks:
            self.write(guest, made, mark)
        return made

    def write(self, guest: str, volume: str, mark: blocks.Mark) -> None:
        blocks.write(self.cloud.host_of(guest).machine, guest, volume, mark)
        self.marks.setdefault(volume, []).append(mark)

    def snapshot(self, volume: str, **more) -> str:
        made = self.ec2.create_snapshot(VolumeId=volume, **more)["SnapshotId"]
        volumes.wait_completed(self.account, made)
        return made

    def prepare(self, guests: list[str]) -> None:
        """What is to be as it was, on three guests that have booted; an old image, and an instance of it."""
        ec2 = self.ec2
        one = self.volume(guests[0], FIRST, VolumeType="gp3", **tagged("volume"))
        first = self.snapshot(one, Description="the first", **tagged("snapshot"))
        self.write(guests[0], one, SECOND)
        second = self.snapshot(one, Description="over the first")
        copy = ec2.copy_snapshot(SourceRegion=ec2.meta.region_name, SourceSnapshotId=second)["SnapshotId"]
        ec2.modify_volume(VolumeId=one, Size=2)
        volumes.wait_modified(self.account, one)
        free = self.volume(guests[1], FIRST)
        volumes.detach(self.account, free)
        self.doomed = self.volume(guests[1], FIRST)
        volumes.detach(self.account, self.doomed)
        self.grows = self.volume(guests[2], FIRST)
        # Of a snapshot that is deleted, and that no host has made.
        gone = self.snapshot(self.grows)
        later = self._of(gone)
        ec2.delete_snapshot(SnapshotId=gone)
        self.used = {"volume": one, "free": free, "later": later, "first": first, "second": second, "copy": copy}
        self.marks |= {later: [FIRST]}
        self._images()

    def _of(self, snapshot: str) -> str:
        made = self.ec2.create_volume(AvailabilityZone=volumes.zone(self.account), SnapshotId=snapshot)["VolumeId"]
        self.ec2.get_waiter("volume_available").wait(VolumeIds=[made], WaiterConfig=FAST)
        return made

    def _images(self) -> None:
        """An image of an instance's snapshots, of an image that nothing boots from: its data is small."""
        disk = self.cloud.home / "blank.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1G"], check=True)
        subprocess.run(["qemu-io", "-c", f"write -q {blocks.words(FIRST)}", str(disk)], check=True)
        blank = self.cloud.run("image", "import", "--name", "blank", str(disk))
        (self.pictured,) = running(self.account, 1, **SMALL, ImageId=blank, BlockDeviceMappings=self.disks()[:1])
        words = {"Name": "of two disks", "Description": "no system"} | tagged("image")
        image = self.ec2.create_image(InstanceId=self.pictured, NoReboot=True, **words)["ImageId"]
        self.ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig=FAST)
        self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
        copy = self.ec2.copy_image(SourceRegion=self.ec2.meta.region_name, SourceImageId=image, Name="copy")["ImageId"]
        self.ec2.get_waiter("image_available").wait(ImageIds=[copy], WaiterConfig=FAST)
        (self.quiet,) = running(self.account, 1, **SMALL, ImageId=image)
        self.used["image"] = image

    def disks(self) -> list[dict]:
        """Disks of a launch: an empty one that goes with the instance, one of a snapshot that outlives it."""
        kept = {"SnapshotId": self.used["first"], "DeleteOnTermination": False}
        return [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}, {"DeviceName": "/dev/sdg", "Ebs": kept}]

    def with_disks(self) -> str:
        """A guest that had its disks from the beginning."""
        (made,) = running(self.account, 1, **SMALL, BlockDeviceMappings=self.disks())
        mapped = {m["DeviceName"]: m["Ebs"]["VolumeId"] for m in instance(self.ec2, made)["BlockDeviceMappings"]}
        self.marks[mapped["/dev/sdg"]] = [FIRST]
        self.used |= {"goes": mapped["/dev/sdf"], "stays": mapped["/dev/sdg"]}
        return made

    # ---- what is under way: each is prepared on a guest, and answers with what begins it

    def attach(self, guest: str) -> Callable:
        volume = volumes.create(self.account)
        self.ends["volumes"][volume] = "in-use"
        self.changing.append(guest)
        return lambda: self.ec2.attach_volume(VolumeId=volume, InstanceId=guest, Device="/dev/sdh")

    def detach(self, guest: str) -> Callable:
        volume = self.volume(guest, FIRST)
        self.ends["volumes"][volume] = "available"
        self.changing.append(guest)
        return lambda: self.ec2.detach_volume(VolumeId=volume)

    def take(self, guest: str) -> Callable:
        volume = self.volume(guest, FIRST)

        def ask() -> None:
            made = self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
            self.ends["snapshots"][made] = "completed"

        return ask

    def end(self, guest: str) -> Callable:
        """The end of an instance with a volume that goes with it, and one that does not."""
        goes, stays = self.volume(guest), self.volume(guest, FIRST, device="/dev/sdg")
        mapping = {"DeviceName": "/dev/sdf", "Ebs": {"DeleteOnTermination": True}}
        self.ec2.modify_instance_attribute(InstanceId=guest, BlockDeviceMappings=[mapping])
        self.ends["volumes"] |= {goes: "gone", stays: "available"}
        return lambda: self.ec2.terminate_instances(InstanceIds=[guest])

    def delete(self) -> None:
        self.ends["volumes"][self.doomed] = "gone"
        self.marks.pop(self.doomed, None)
        self.ec2.delete_volume(VolumeId=self.doomed)

    def grow(self) -> None:
        self.ends["modified"][self.grows] = "completed"
        self.ec2.modify_volume(VolumeId=self.grows, Size=2)

    def picture(self) -> None:
        """An image of an instance that is shut down for it, and comes back."""
        made = self.ec2.create_image(InstanceId=self.pictured, Name="under way")
        self.ends["images"][made["ImageId"]] = "available"

    # ---- the manifest

    def look(self, kept: list[str]) -> None:
        """How everything is that nothing is done with: these guests go on."""
        ec2 = self.ec2
        taken = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        # Those of an image that is under way.
        self.ends["snapshots"] |= {each["SnapshotId"]: "completed" for each in taken if each["State"] == "pending"}
        moving = {id for kind in self.ends.values() for id in kind}

        def still(volume: dict) -> bool:
            return volume["VolumeId"] not in moving and all(a["InstanceId"] in kept for a in volume["Attachments"])

        self.seen = {
            "volumes": {v["VolumeId"]: steady(v) for v in ec2.describe_volumes()["Volumes"] if still(v)},
            "snapshots": {s["SnapshotId"]: steady(s) for s in taken if s["SnapshotId"] not in moving},
            "images": {i["ImageId"]: steady(i) for i in ec2.describe_images(Owners=["self"])["Images"] if i["ImageId"] not in moving},
        }

    def manifest(self) -> dict:
        return {"seen": self.seen, "marks": self.marks, "ends": self.ends, "changing": self.changing, "used": self.used}

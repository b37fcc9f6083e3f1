"""Volumes of a guest that runs: how soon it sees one, what a snapshot keeps it waiting, and what the next one costs."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

from guests import virsh
from harness import volumes
from harness.cloud import Account, Cloud
from harness.guest import Guest, launch, shell_key, terminate
from harness.volumes import attach, detach, wait_attached, wait_completed, wait_disk
from harness.wait import until
from report import Row, number

SOURCE = Path(__file__).parents[1] / "guests/bench/flushes.c"
FLUSHES = "/tmp/flushes"
# The volume has no bound that a guest comes near.
FAST = {"VolumeType": "gp3", "Iops": 5000, "Throughput": 1000}
GIB, WRITTEN, CHANGED = 10, 1024, 32
# Of a free slot on the guest's bus for disks, and a place for it in names.
SLOT, SEEN = "0x14", "vdb"
PAIRS = 8


def rows(folder: Path) -> list[Row]:
    room = folder / "volumes"
    room.mkdir()
    # Guests' processes get to what is plugged in by hand.
    room.chmod(0o711)
    with Cloud("libvirt", "[libvirt]\nstop_grace = 5\n") as cloud, one_guest(cloud, room) as guest:
        found = [until_seen(guest, room), *snapshots(guest)]
    shutil.rmtree(room)
    return found


@contextmanager
def one_guest(cloud: Cloud, room: Path) -> Iterator[Guest]:
    """With a shell, and the program in it."""
    program = room / "flushes"
    subprocess.run(["gcc", "-O2", "-static", "-s", "-o", str(program), str(SOURCE)], check=True)
    account = cloud.account()
    key = shell_key(account, room)
    (guest,) = launch(account, key, "k")
    guest.wait_ssh()
    write = guest.ssh_command(f"cat >{FLUSHES}; chmod 755 {FLUSHES}")
    subprocess.run(write, input=program.read_bytes(), check=True, timeout=60)
    try:
        yield guest
    finally:
        terminate(account, guest)
        volumes.delete_all(account)
        volumes.delete_snapshots(account)


# ---- attach


def until_seen(guest: Guest, room: Path) -> Row:
    """In turn, and the median of what each pair differs by."""
    account = guest.account
    xml = ElementTree.fromstring(virsh("dumpxml", guest.id))
    console = Path(xml.find("devices/serial/log").get("file"))
    ours, bare = [], []
    for number_of_pair in range(PAIRS):
        volume = volumes.create(account)
        ours.append(seen_after(guest, console, f"ours {number_of_pair}", lambda: request(account, volume, guest)))
        wait_attached(account, volume, guest.id)
        detach(account, volume)
        account.ec2.delete_volume(VolumeId=volume)
        file = by_hand(xml, room)
        bare.append(seen_after(guest, console, f"bare {number_of_pair}", lambda: virsh("attach-device", guest.id, str(file))))
        virsh("detach-device", guest.id, str(file))
        until(lambda: not guest.ssh(f"ls -d /sys/block/{SEEN} 2>/dev/null; true"), "the disk is gone", every=0.1)
    added = median(one - other for one, other in zip(ours, bare)) * 1000
    return Row(
        "AttachVolume, from the request until the guest sees it", f"{median(ours) * 1000:.0f} ms",
        f"`virsh attach-device`: {median(bare) * 1000:.0f} ms", f"{added:+.0f} ms", "< +300 ms", added < 300,
    )  # fmt: skip


def request(account: Account, volume: str, guest: Guest) -> None:
    account.ec2.attach_volume(VolumeId=volume, InstanceId=guest.id, Device="/dev/sdf")


def seen_after(guest: Guest, console: Path, mark: str, plug) -> float:
    """Seconds from the request until the guest has the disk; it watches from before."""
    guest.ssh(f"({FLUSHES} /dev/{SEEN} seen 'bench {mark} seen' </dev/null >/dev/null 2>&1 &); sleep 0.3")
    start = time.monotonic()
    plug()
    while f"bench {mark} seen".encode() not in console.read_bytes():
        assert time.monotonic() - start < 60, f"the guest does not see it: {mark}"
        time.sleep(0.002)
    return time.monotonic() - start


def by_hand(guest: ElementTree.Element, room: Path) -> Path:
    """The element of another disk of the same guest, with its root's settings."""
    disk, xml = room / "bare.raw", room / "bare.xml"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(1 << 30)
    root = guest.find("devices/disk")
    made = ElementTree.Element("disk", type="file", device="disk", model=root.get("model"))
    driver = ElementTree.SubElement(made, "driver", dict(root.find("driver").attrib))
    driver.set("type", "raw")
    ElementTree.SubElement(made, "source", file=str(disk))
    ElementTree.SubElement(made, "target", dev=SEEN, bus="virtio")
    address = dict(root.find("address").attrib)
    ElementTree.SubElement(made, "address", {**address, "slot": SLOT})
    xml.write_text(ElementTree.tostring(made, encoding="unicode"))
    return xml


# ---- snapshots


def snapshots(guest: Guest) -> list[Row]:
    account = guest.account
    volume = volumes.create(account, GIB, **FAST)
    attach(account, volume, guest.id)
    disk = f"/dev/{wait_disk(guest, volume)}"
    guest.ssh(f"{FLUSHES} {disk} fill 0 {WRITTEN}", timeout=300)

    quiet = flushing(guest, disk, lambda: time.sleep(5))
    answered: list[float] = []
    first = Taken(account, volume)
    busy = flushing(guest, disk, lambda: answered.append(first.take()))

    guest.ssh(f"{FLUSHES} {disk} fill {WRITTEN // 2} {CHANGED}", timeout=60)
    second = Taken(account, volume)
    answered.append(second.take())
    # What the flushes have written since the first came to be is among it: a few MiB at the most.
    times = second.room / (CHANGED << 20)
    size = f"a {GIB} GiB volume with {WRITTEN >> 10} GiB written"
    return [
        Row(f"CreateSnapshot of {size}, until it is answered", f"{max(answered) * 1000:.0f} ms", "", "", "≤ 1 s",
            max(answered) <= 1),
        Row("The guest's longest write and flush meanwhile", f"{busy[1]:.0f} ms, median {busy[0]:.1f} ms",
            f"without a snapshot: {quiet[1]:.0f} ms, median {quiet[0]:.1f} ms", "", "< 100 ms", busy[1] < 100),
        Row(f"The next snapshot, of {CHANGED} MiB that have changed", f"{number(second.room / 2**20)} MiB, {second.took:.1f} s",
            f"the first: {number(first.room / 2**20)} MiB, {first.took:.1f} s", f"{times:.2f} × the change", "≤ 1.25 ×",
            times <= 1.25),
    ]  # fmt: skip


def flushing(guest: Guest, disk: str, meanwhile) -> tuple[float, float]:
    """The median and the longest of the guest's flushes, in milliseconds, while something is done."""
    stop, output = "/tmp/stop", "/tmp/flushed"
    guest.ssh(f"rm -f {stop} {output}; ({FLUSHES} {disk} until {stop} </dev/null >{output} 2>&1 &); sleep 1")
    meanwhile()
    _, middle, longest = guest.ssh(f"touch {stop}; sleep 1; cat {output}", timeout=120).split()
    return float(middle), float(longest)


class Taken:
    """A snapshot, what it took of time, and of room in the store."""

    def __init__(self, account: Account, volume: str) -> None:
        self.account, self.volume = account, volume
        self.took, self.room = 0.0, 0

    def take(self) -> float:
        """Until it is there; seconds until the request was answered."""
        before, start = self.stored(), time.monotonic()
        made = self.account.ec2.create_snapshot(VolumeId=self.volume)
        answered = time.monotonic() - start
        assert made["State"] == "pending"
        wait_completed(self.account, made["SnapshotId"])
        self.took, self.room = time.monotonic() - start, self.stored() - before
        return answered

    def stored(self) -> int:
        return sum(path.stat().st_blocks * 512 for path in self.account.cloud.state.glob("snapshots/segments/*"))

"""A guest's disk beside that of the same guest under bare QEMU, with the best settings that were found for it: what the
guest sees of both, and the same block options without a guest, since an emulated processor can hide a slow disk."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from guests import virsh
from harness import volumes
from harness.cloud import Account, Cloud
from report import Row, number

GUEST = Path(os.environ.get("CUMULET_BENCH_IMAGE", Path.home() / ".cache/cumulet/guests/bench.qcow2"))
# No bounds but those of the volume's type, which are beyond what a guest does here.
CONFIG = "[libvirt]\nstop_grace = 5\ndisk_mib = 0\ndisk_operations = 0\n[scheduler]\ndisk_allocation_ratio = 100.0\n"
GIB, IOPS = 64, 64_000
# What the guest says, what that is, and whether more is better.
MEASURED = {
    "random-read": ("4 KiB random read, 16 under way", "/s", True),
    "random-write": ("4 KiB random write, 16 under way", "/s", True),
    "sequential-read": ("sequential read", " MiB/s", True),
    "sequential-write": ("sequential write", " MiB/s", True),
    "fsync": ("4 KiB write and fsync, median", " µs", False),
}
LEAST = 0.95
# Pairs at least: other work on the machine comes and goes.
PAIRS = 7
FILLED = 512
Found = dict[str, float]


def rows(folder: Path, rounds: int) -> list[Row]:
    room = folder / "guest-io"
    room.mkdir()
    pairs: list[tuple[Found, Found]] = []
    with Cloud("libvirt", CONFIG) as cloud:
        image = cloud.run("image", "import", "--name", "bench", str(GUEST))
        ours = Ours(cloud.first_account(), image)
        first = ours.measure()
        bare = Bare(room, ours.command)
        for side in (ours, bare):
            say(f"{side.name}: {shlex.join(side.command)}")
        for one in itertools.chain([first], (ours.measure() for _ in range(1, max(rounds, PAIRS)))):
            pairs.append((one, bare.measure()))
            say(f"guest-io: {pairs[-1]}")
        found = [seen_by_guest(name, pairs) for name in MEASURED]
        found += without_guest(room, ours.block_options(), bare.block_options(), max(rounds, PAIRS))
    shutil.rmtree(room)
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def compared(what: str, unit: str, more: bool, pairs: list[tuple[float, float]]) -> Row:
    """The median of what each pair is to each other; a time is as good as it is short."""
    ratio = median(one / other if more else other / one for one, other in pairs)
    show = [f"{number(median(side))}{unit}" for side in zip(*pairs)]
    return Row(what, show[0], f"bare QEMU: {show[1]}", f"{ratio:.0%}", f"≥ {LEAST:.0%}", ratio >= LEAST)


def seen_by_guest(name: str, pairs: list[tuple[Found, Found]]) -> Row:
    what, unit, more = MEASURED[name]
    return compared(f"Guest: {what}", unit, more, [(one[name], other[name]) for one, other in pairs])


def read(console: str) -> Found:
    """What the guest has said; of one that has failed, that."""
    assert "guest-io failed" not in console, console[-500:]
    return {name: float(value) for name, value in re.findall(r"guest-io (\S+) ([\d.]+)", console)}


class Ours:
    """The guest as an instance, with a volume that it is launched with."""

    name = "Cumulet"

    def __init__(self, account: Account, image: str) -> None:
        self.account, self.image = account, image
        self.command: list[str] = []

    def measure(self) -> Found:
        volume = {"VolumeSize": GIB, "VolumeType": "io2", "Iops": IOPS, "DeleteOnTermination": True}
        made = self.account.ec2.run_instances(
            ImageId=self.image,
            InstanceType="t2.nano",
            MinCount=1,
            MaxCount=1,
            BlockDeviceMappings=[{"DeviceName": "/dev/sdb", "Ebs": volume}],
        )
        instance = made["Instances"][0]["InstanceId"]
        self.account.ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
        log = re.search(r"<log file='([^']+)'", virsh("dumpxml", instance))[1]
        self.command = process(instance)
        found = wait_done(Path(log))
        # It goes off by itself.
        self.account.ec2.terminate_instances(InstanceIds=[instance])
        self.account.ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
        volumes.delete_all(self.account)
        return found

    def block_options(self) -> dict:
        """What the volume's file is opened with: its node and the one above it."""
        given = [json.loads(text) for option, text in zip(self.command, self.command[1:]) if option == "-blockdev"]
        nodes = {node["node-name"]: node for node in given}
        (top,) = [node for node in given if "/volumes/" in nodes.get(node.get("file"), {}).get("filename", "")]
        return {**top, "file": nodes[top["file"]]}


def process(instance: str) -> list[str]:
    """The command line of a guest's process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if any(word.startswith(f"guest={instance},") for word in words):
            return words[:-1]
    raise AssertionError(f"no process of {instance}")


def wait_done(console: Path, timeout: float = 180.0) -> Found:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        text = console.read_text(errors="replace") if console.exists() else ""
        if "guest-io done" in text or "guest-io failed" in text:
            return read(text)
        time.sleep(0.2)
    raise AssertionError(f"the guest is not done: {text[-500:]}")


class Bare:
    """The same guest, started by hand, with the processor that `theirs` has."""

    name = "bare QEMU"

    def __init__(self, room: Path, theirs: list[str]) -> None:
        self.root, self.data = room / "root.qcow2", room / "data.raw"
        same = [word for option in ("-accel", "-cpu") for word in (option, theirs[theirs.index(option) + 1])]
        self.command = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
            "-machine", "q35", *same, "-smp", "1", "-m", "512",
            "-object", "iothread,id=disks",
            "-drive", f"if=none,id=root,format=qcow2,file={self.root},cache=none,aio=io_uring",
            "-device", "virtio-blk-pci,drive=root,iothread=disks",
            "-blockdev", json.dumps(self.block_options()),
            "-device", "virtio-blk-pci,drive=data,iothread=disks",
        ]  # fmt: skip

    def block_options(self) -> dict:
        cache = {"direct": True, "no-flush": False}
        file = {"driver": "file", "filename": str(self.data), "aio": "io_uring", "cache": cache, "discard": "unmap"}
        return {"driver": "raw", "node-name": "data", "cache": cache, "discard": "unmap", "file": file}

    def measure(self) -> Found:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(GUEST), str(self.root)], check=True)
        self.data.unlink(missing_ok=True)
        with self.data.open("wb") as file:
            file.truncate(GIB << 30)
        done = subprocess.run(self.command, capture_output=True, text=True, timeout=180)
        found = read(done.stdout)
        assert set(found) == set(MEASURED), done.stdout[-500:] + done.stderr
        return found


def without_guest(room: Path, ours: dict, bare: dict, rounds: int) -> list[Row]:
    """The block options of both, by `qemu-img bench` on files that have been written."""
    noise, found = room / "noise.raw", []
    subprocess.run(["dd", "if=/dev/urandom", f"of={noise}", "bs=1M", f"count={FILLED}", "status=none"], check=True)
    files = []
    for side, options in (("ours", ours), ("bare", bare)):
        files.append(room / f"{side}.{options['driver']}")
        subprocess.run(["qemu-img", "convert", "-O", options["driver"], str(noise), str(files[-1])], check=True)
        subprocess.run(["sync", str(files[-1])], check=True)
    for what, words in {
        "4 KiB read, 16 under way": ["-c", "40000", "-d", "16", "-s", "4k", "-S", "1028k"],
        "4 KiB write, 16 under way": ["-w", "-c", "40000", "-d", "16", "-s", "4k", "-S", "1028k"],
        "4 KiB write, each with a flush": ["-w", "-c", "2000", "-d", "1", "-s", "4k", "-S", "1028k", "--flush-interval=1"],
    }.items():
        both = [with_file(options, file) for options, file in zip((ours, bare), files)]
        pairs = [(host_rate(both[0], words), host_rate(both[1], words)) for _ in range(rounds)]
        found.append(compared(f"Its block options without a guest: {what}", "/s", True, pairs))
    return found


def with_file(options: dict, file: Path) -> dict:
    """The same for another file, without what names nodes."""
    inner = {name: value for name, value in options["file"].items() if name != "node-name"}
    outer = {name: value for name, value in options.items() if name != "node-name"}
    return {**outer, "file": {**inner, "filename": str(file)}}


def host_rate(options: dict, words: list[str]) -> float:
    count = int(words[words.index("-c") + 1])
    file = options["file"]
    # `qemu-img bench` has a cache mode and an interface of its own, which go over what the file says.
    how = ["-t", "none" if file["cache"]["direct"] else "writeback", "-i", file["aio"]]
    command = ["qemu-img", "bench", *words, *how, f"json:{json.dumps(options)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return count / float(re.search(r"completed in ([\d.]+) seconds", done.stdout)[1])



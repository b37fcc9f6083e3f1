"""A real launch against a bare `virsh create` of the same guest, until the guest's first userspace line."""

import shutil
import subprocess
import time
import uuid
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

from harness.cloud import Account, Cloud
from report import Row

LINE = b"cumulet-tiny first line"
URI = "qemu:///system"
TAP = "cvbench0"
NAME = "cumulet-bench"


def virsh(*words: str) -> str:
    return subprocess.run(["virsh", "-q", "-c", URI, *words], check=True, capture_output=True, text=True).stdout


def wait_line(console: Path, start: float, timeout: float = 60.0) -> float:
    """Seconds from `start` until the line is in the console's file."""
    while time.monotonic() - start < timeout:
        if console.exists() and LINE in console.read_bytes():
            return time.monotonic() - start
        time.sleep(0.002)
    raise AssertionError(f"no {LINE!r} in {console}")


class Pattern:
    """The guest as Cumulet made it: its XML, and where its files are."""

    def __init__(self, account: Account, folder: Path) -> None:
        self.account, self.folder = account, folder
        instance = self.run()
        self.account.ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
        name = next(n for n in virsh("list", "--name").split() if instance in n or instance in virsh("dumpxml", n))
        self.xml = ElementTree.fromstring(virsh("dumpxml", "--security-info", name))
        disk = self.xml.find("devices/disk/source").get("file")
        self.console = self.console_file(self.xml).replace(instance, "INSTANCE")
        info = subprocess.run(["qemu-img", "info", "-U", "--output=json", disk], check=True, capture_output=True, text=True)
        import json

        found = json.loads(info.stdout)
        self.backing, self.size = found["full-backing-filename"], found["virtual-size"]
        self.backing_format = found["backing-filename-format"]
        wait_line(Path(self.console.replace("INSTANCE", instance)), time.monotonic())
        self.terminate(instance)

    @staticmethod
    def console_file(xml: ElementTree.Element) -> str:
        # Beside the terminal that the port is: reading from that would take what is typed.
        log = xml.find("devices/serial/log")
        assert log is not None, "the guest's console goes to no file"
        return log.get("file")

    def run(self) -> str:
        made = self.account.ec2.run_instances(
            ImageId=self.account.cloud.image, InstanceType="t2.nano", MinCount=1, MaxCount=1
        )
        return made["Instances"][0]["InstanceId"]

    def terminate(self, instance: str) -> None:
        self.account.ec2.terminate_instances(InstanceIds=[instance])
        self.account.ec2.get_waiter("instance_terminated").wait(
            InstanceIds=[instance], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )

    def launch(self) -> float:
        """Through the API: the request's time included."""
        start = time.monotonic()
        instance = self.run()
        taken = wait_line(Path(self.console.replace("INSTANCE", instance)), start)
        self.terminate(instance)
        return taken

    def bare(self) -> float:
        """The same XML with a disk, a console and an interface of its own, given to virsh."""
        disk, console = self.folder / "bare.qcow2", self.folder / "bare.log"
        console.unlink(missing_ok=True)
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", self.backing, "-F", self.backing_format]
        subprocess.run([*create, str(disk), str(self.size)], check=True)
        subprocess.run(["ip", "tuntap", "add", "dev", TAP, "mode", "tap"], check=True)
        subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
        file = self.folder / "bare.xml"
        file.write_text(self.bare_xml(disk, console))
        try:
            start = time.monotonic()
            virsh("create", str(file))
            return wait_line(console, start)
        finally:
            subprocess.run(["virsh", "-q", "-c", URI, "destroy", NAME], capture_output=True)
            subprocess.run(["ip", "link", "delete", TAP], capture_output=True)

    def bare_xml(self, disk: Path, console: Path) -> str:
        root = ElementTree.fromstring(ElementTree.tostring(self.xml))
        root.attrib.pop("id", None)
        root.find("name").text, root.find("uuid").text = NAME, str(uuid.uuid4())
        for found in [*root.findall("seclabel"), *root.findall("metadata")]:
            root.remove(found)
        for entry in root.iterfind("sysinfo/system/entry[@name='uuid']"):
            entry.text = root.find("uuid").text
        devices = root.find("devices")
        for parent in devices.iter():
            for child in [c for c in parent if c.tag in ("alias", "backingStore", "privateData")]:
                parent.remove(child)
        for channel in devices.findall("channel"):
            devices.remove(channel)
        devices.find("disk/source").set("file", str(disk))
        devices.find("disk/source").attrib.pop("index", None)
        old = self.console_file(root)
        for place in root.iter():
            for attribute in ("path", "file"):
                if place.get(attribute) == old:
                    place.set(attribute, str(console))
        for target in devices.iterfind("interface/target"):
            target.set("dev", TAP)
        return ElementTree.tostring(root, encoding="unicode")


# Pairs at least: guests boot in seconds, and the mark is a part of one.
PAIRS = 10


def launch_time(folder: Path, rounds: int) -> list[Row]:
    """In turn, and the median of what each pair differs by: other work on the machine comes and goes."""
    room = Path(folder / "bare")
    room.mkdir()
    room.chmod(0o777)
    with Cloud("libvirt", "[libvirt]\nstop_grace = 5\n") as cloud:
        pattern = Pattern(cloud.first_account(), room)
        ours, bare = [], []
        for _ in range(max(rounds, PAIRS)):
            bare.append(pattern.bare())
            ours.append(pattern.launch())
    shutil.rmtree(room)
    added = median(one - other for one, other in zip(ours, bare)) * 1000
    return [
        Row("Real launch, from the request to the guest's first line", f"{median(ours):.2f} s",
            f"`virsh create`: {median(bare):.2f} s", f"{added:+.0f} ms", "< +300 ms", added < 300)
    ]  # fmt: skip

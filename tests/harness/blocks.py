"""What is on disks, seen from the host: written through the program of the guest that has one, read from its file."""

import json
import subprocess
from pathlib import Path

from .machines import Machine
from .site import Host

# Where on a disk it is, in MiB, and the byte that is there so often.
Mark = tuple[int, int]
LENGTH = 64 << 10


def words(mark: Mark) -> str:
    """A mark as `qemu-io` takes it."""
    mebibyte, byte = mark
    return f"-P {byte} {mebibyte}M {LENGTH}"


def _query(machine: Machine, guest: str) -> list[dict]:
    """The disks of a guest, as its program sees them."""
    said = machine.run("virsh", "-q", "qemu-monitor-command", guest, '{"execute": "query-block"}')
    return [disk for disk in json.loads(said)["return"] if disk.get("inserted")]


def files(machine: Machine, guest: str) -> list[str]:
    """The files that a guest's program has as disks."""
    return sorted(disk["inserted"]["image"]["filename"] for disk in _query(machine, guest))


def write(machine: Machine, guest: str, volume: str, mark: Mark) -> None:
    """Writes a mark to a guest's volume, as the guest itself would."""
    (disk,) = [disk for disk in _query(machine, guest) if volume in disk["inserted"]["image"]["filename"]]
    for command in (f"write {words(mark)}", "flush"):
        machine.run("virsh", "-q", "qemu-monitor-command", guest, "--hmp", f'qemu-io -d {disk["qdev"]} "{command}"')


def holds(path: Path, mark: Mark) -> bool:
    """Whether a disk has the mark, also while a guest has it in hands."""
    with path.open("rb") as file:
        kind = "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
    command = ["qemu-io", "-r", "-U", "-f", kind, "-c", f"read {words(mark)}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0 and f"read {LENGTH}/{LENGTH}" in done.stdout and "failed" not in done.stdout


def volume(hosts: list[Host], id: str) -> Path:
    """A volume's file, on whichever host it is."""
    (found,) = [path for host in hosts for path in host.state.glob(f"hosts/*/volumes/{id}*")]
    return found


def root(hosts: list[Host], instance: str) -> Path:
    """The file of an instance's root disk."""
    (found,) = [path for host in hosts for path in host.state.glob(f"hosts/*/instances/{instance}/disk.qcow2")]
    return found

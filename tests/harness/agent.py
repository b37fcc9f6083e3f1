"""A guest's agent (QEMU's), asked from its host, and what the cloud's log says of freezes."""

import json
import subprocess

from .cloud import Cloud
from .guest import Guest


def frozen(guest: Guest) -> bool | None:
    """Whether the agent says that the guest is frozen; None where it does not answer."""
    question = json.dumps({"execute": "guest-fsfreeze-status"})
    words = ["virsh", "-c", "qemu:///system", "qemu-agent-command", guest.id, question]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)["return"] == "frozen" if done.returncode == 0 else None


def _told(cloud: Cloud, guest: Guest, message: str) -> list[dict]:
    """The fields of what was logged of the guest with that message."""
    lines = [line for line in cloud.text().splitlines() if message in line and guest.id in line]
    return [json.loads(line)["fields"] for line in lines]


def freezes(cloud: Cloud, guest: Guest) -> list[tuple[int, int]]:
    """How many file systems of the guest were frozen for snapshots, and for how many milliseconds, each time."""
    return [(told["file_systems"], told["ms"]) for told in _told(cloud, guest, "frozen while copies of the guest's disks began")]


def failures(cloud: Cloud, guest: Guest) -> list[str]:
    """Why the guest's agent did not freeze them, each time."""
    return [told["why"] for told in _told(cloud, guest, "without its file systems being frozen")]

"""A guest's agent (QEMU's), asked from its host, and what the cloud's log says of freezes."""

import json
import re
import subprocess

from .cloud import Cloud
from .guest import Guest


def frozen(guest: Guest) -> bool | None:
    """Whether the agent says that the guest is frozen; None where it does not answer."""
    question = json.dumps({"execute": "guest-fsfreeze-status"})
    words = ["virsh", "-c", "qemu:///system", "qemu-agent-command", guest.id, question]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)["return"] == "frozen" if done.returncode == 0 else None


def freezes(cloud: Cloud, guest: Guest) -> list[tuple[int, int]]:
    """How many file systems of the guest were frozen for snapshots, and for how many milliseconds, each time."""
    found = re.findall(rf"frozen while copies .*{guest.id}.*file_systems=(\d+) ms=(\d+)", cloud.text())
    return [(int(count), int(ms)) for count, ms in found]


def failures(cloud: Cloud, guest: Guest) -> list[str]:
    """What was said where the guest's agent did not freeze."""
    return re.findall(rf"without its file systems being frozen .*{guest.id}.*", cloud.text())

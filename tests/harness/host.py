"""What a cloud may leave on the machine: processes, domains, namespaces, devices."""

import json
import os
import subprocess
from pathlib import Path

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def short(resource: str) -> str:
    """The 13 characters that stand for an id in the names of devices."""
    number = int(resource.split("-")[-1], 16)
    return "".join(DIGITS[number >> 5 * (12 - i) & 31] for i in range(13))


def cloud_id(state: Path) -> str | None:
    """The cloud's mark on what it makes, out of its database."""
    import sqlite3
    from contextlib import closing

    database = state / "cumulet.db"
    if not database.exists():
        return None
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            row = connection.execute("select value from settings where name = 'cloud_id'").fetchone()
        except sqlite3.OperationalError:
            return None
    return row[0] if row else None


def namespaces(cloud: str) -> list[str]:
    names = [entry.name for entry in Path("/run/netns").iterdir()] if Path("/run/netns").exists() else []
    return [name for name in names if name.startswith(f"cumulet-{cloud}-")]


def links(cloud: str) -> list[str]:
    """The cloud's devices in the machine's own namespace."""
    found = json.loads(command("ip", "-j", "link", "show") or "[]")
    return [link["ifname"] for link in found if str(link.get("ifalias", "")).startswith(f"cumulet-{cloud}")]


def processes(state: Path) -> dict[int, str]:
    """Processes whose command line names the state directory, but for the tests' own."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{state}/" in line and int(folder.name) != os.getpid():
            found[int(folder.name)] = line.strip()
    return found


def domains(cloud: str) -> list[str]:
    names = command("virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name").split()
    return [name for name in names if cloud in name or cloud in definition(name)]


def definition(domain: str) -> str:
    """A domain's XML; empty when it has gone meanwhile (another cloud's may)."""
    return subprocess.run(["virsh", "-q", "-c", "qemu:///system", "dumpxml", domain], capture_output=True, text=True).stdout


def leftovers(state: Path, cloud: str | None) -> list[str]:
    """What there still is of the cloud with this id and state directory; call it when the cloud is down."""
    found = [f"process {pid}: {line[:160]}" for pid, line in processes(state).items()]
    if cloud:
        found += [f"namespace {name}" for name in namespaces(cloud)]
        found += [f"device {name}" for name in links(cloud)]
        found += [f"domain {name}" for name in domains(cloud)]
    found += [f"files {path}" for part in ("instances", "volumes") for path in state.glob(f"hosts/*/{part}/*")]
    return found


def remove(state: Path, found: list[str]) -> None:
    """Takes away what `leftovers` found, so that one failed test does not become many."""
    for line in found:
        kind, _, name = line.partition(" ")
        if kind == "domain":
            subprocess.run(["virsh", "destroy", name], capture_output=True)
            subprocess.run(["virsh", "undefine", name], capture_output=True)
        elif kind == "process":
            subprocess.run(["kill", "-9", name.partition(":")[0]], capture_output=True)
        elif kind == "namespace":
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        elif kind == "device":
            subprocess.run(["ip", "link", "delete", name], capture_output=True)

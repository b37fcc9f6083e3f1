"""A PATH of chosen programs: those that every Debian has, and what a test adds."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def essential() -> dict[str, str]:
    """The programs of Debian's essential packages, and awk, by their names."""
    form = "${Essential}|${Package}\n"
    listed = subprocess.run(["dpkg-query", "-W", "-f", form], check=True, capture_output=True, text=True).stdout
    packages = [line.split("|")[1] for line in listed.splitlines() if line.startswith("yes|")]
    files = subprocess.run(["dpkg-query", "-L", *packages], check=True, capture_output=True, text=True).stdout
    found = {"awk": shutil.which("awk") or "", "sh": "/bin/sh"}
    for line in files.splitlines():
        path = Path(line)
        if path.parent.name in ("bin", "sbin") and os.access(path, os.X_OK) and path.is_file():
            found[path.name] = line
    return found


def path_of(folder: Path, *more: str, without: tuple[str, ...] = ()) -> str:
    """A PATH: a folder of links to the essential programs and to `more` (where this host has them)."""
    folder.mkdir(parents=True)
    programs = essential() | {name: there for name in more if (there := shutil.which(name))}
    for name, there in programs.items():
        if name not in without:
            (folder / name).symlink_to(there)
    return str(folder)


def bash(script: str, *arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess:
    """Runs a piece of shell in the checkout, with nothing of this environment but what is given."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"} | environment
    return subprocess.run(
        ["/bin/bash", "-c", script, "-", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
    )  # fmt: skip

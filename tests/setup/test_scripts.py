"""The shell scripts by themselves."""

import shutil
import subprocess

import pytest

from setup.programs import ROOT


def scripts() -> list[str]:
    found = []
    for folder in ("scripts", "tests/guests", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            # What is in the guest's tree runs in busybox, under names that udhcpc sets.
            if path.is_file() and "tiny/root" not in str(path):
                first = path.read_bytes().split(b"\n", 1)[0]
                if first in (b"#!/bin/bash", b"#!/bin/sh") or path.suffix == ".sh":
                    found.append(str(path.relative_to(ROOT)))
    return found


def test_shellcheck_finds_nothing():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed: scripts/setup-host --test")
    assert {"scripts/setup-host", "scripts/run", "tests/guests/tiny/build"} <= set(scripts())
    done = subprocess.run(
        ["shellcheck", "-x", "-P", str(ROOT), "-S", "warning", "-e", "SC2034,SC2154", *scripts()],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout

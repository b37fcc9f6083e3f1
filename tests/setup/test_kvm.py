"""The rule for /dev/kvm, on devices of the tests' own: the group kvm can open it, by Debian's owner and mode."""

import grp
import os
import stat
from pathlib import Path

import pytest

from setup.programs import bash

OPEN = '. scripts/setup-host; open_kvm "$1"'


def group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


@pytest.fixture
def device(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")

    def make(owners: str, mode: int) -> Path:
        path = tmp_path / "kvm"
        # /dev/null's numbers: nobody can do harm with it.
        os.mknod(path, stat.S_IFCHR | mode, os.makedev(1, 3))
        os.chown(path, 0, group(owners))
        path.chmod(mode)
        return path

    return make


@pytest.mark.parametrize(
    ("owners", "mode"), [("root", 0o600), ("root", 0o660), ("root", 0o664), ("disk", 0o660), ("kvm", 0o600), ("kvm", 0o606), ("kvm", 0o640)]
)  # fmt: skip
def test_a_device_that_the_group_cannot_open_is_opened(device, owners, mode):
    path = device(owners, mode)
    done = bash(OPEN, str(path))
    seen = path.stat()
    assert (seen.st_gid, stat.S_IMODE(seen.st_mode)) == (group("kvm"), 0o660), done.stderr
    assert f"was root:{owners} {mode:04o}" in done.stdout and "is root:kvm 0660 now" in done.stdout
    assert bash(OPEN, str(path)).stdout == "", "once is enough"


@pytest.mark.parametrize(("owners", "mode"), [("kvm", 0o660), ("kvm", 0o666), ("root", 0o666), ("root", 0o606)])
def test_a_device_that_the_group_can_open_is_left(device, owners, mode):
    path = device(owners, mode)
    done = bash(OPEN, str(path))
    seen = path.stat()
    assert (done.returncode, done.stdout) == (0, "")
    assert (seen.st_gid, stat.S_IMODE(seen.st_mode)) == (group(owners), mode)


def test_what_is_no_device_is_left(tmp_path):
    file = tmp_path / "file"
    file.touch(0o600)
    for path in (file, tmp_path, tmp_path / "nothing"):
        done = bash(OPEN, str(path))
        assert (done.returncode, done.stdout) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_device_that_cannot_be_changed_is_told_with_the_cure(device):
    path = device("root", 0o600)
    done = bash(f"{OPEN.replace('open_kvm', 'chgrp() { false; }; open_kvm')}", str(path))
    assert done.returncode == 0 and f"chgrp kvm {path}; chmod 660 {path}" in done.stdout

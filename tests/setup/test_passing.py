"""The way of guests with users of their own through libvirt's folder: one bit where they need it, and dpkg is told."""

import grp
import json
import os
import stat
from pathlib import Path

import pytest

from setup.programs import bash
from setup.test_packages import Debian

# What dpkg is told is written down; nothing of this host is changed.
SCRIPT = """
    . scripts/setup-host
    dpkg-statoverride() { echo "$*" >>"$(dirname "$2")/told"; [ "$1" != --list ] || [ -n "${known:-}" ]; }
"""
PASS = SCRIPT.replace('$(dirname "$2")', "$told") + 'let_guests_pass "$1" "$2"'


def group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def host(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")

    def make(device: int | None, folder: int, above: int = 0o755, owners: str = "disk") -> tuple[Path, Path]:
        kvm, running = tmp_path / "kvm", tmp_path / "libvirt/qemu"
        if device is not None:
            os.mknod(kvm, stat.S_IFCHR, os.makedev(1, 3))
            os.chown(kvm, 0, group("kvm"))
            kvm.chmod(device)
        running.mkdir(parents=True)
        for path, bits in ((running, folder), (running.parent, above)):
            os.chown(path, 0, group(owners))
            path.chmod(bits)
        return kvm, running

    return make


def run(tmp_path: Path, *paths: Path, known: str = "", more: str = ""):
    return bash(more + PASS, *map(str, paths), told=str(tmp_path), known=known)


def told(tmp_path: Path) -> list[str]:
    file = tmp_path / "told"
    return file.read_text().splitlines() if file.exists() else []


def test_debians_folder_gets_one_bit_and_keeps_it(host, tmp_path):
    kvm, running = host(0o660, 0o750)
    done = run(tmp_path, kvm, running)
    assert done.returncode == 0 and (mode(running), mode(running.parent)) == (0o751, 0o755), done.stderr
    assert f"{running} was root:disk 0750" in done.stdout and "user of its own" in done.stdout
    assert told(tmp_path) == [f"--list {running}", f"--add root disk 0751 {running}"]
    assert run(tmp_path, kvm, running).stdout == "" and len(told(tmp_path)) == 2, "once is enough"


def test_an_operators_own_word_to_dpkg_is_left(host, tmp_path):
    kvm, running = host(0o660, 0o750)
    run(tmp_path, kvm, running, known="1")
    assert mode(running) == 0o751 and told(tmp_path) == [f"--list {running}"]


def test_what_lies_above_is_looked_at_too(host, tmp_path):
    kvm, running = host(0o660, 0o750, above=0o700)
    run(tmp_path, kvm, running)
    assert (mode(running), mode(running.parent)) == (0o751, 0o701)


@pytest.mark.parametrize(
    ("device", "folder", "owners"),
    [
        pytest.param(0o660, 0o751, "disk", id="open"),
        pytest.param(0o660, 0o750, "kvm", id="the-groups-own"),
        pytest.param(0o666, 0o750, "disk", id="nobody-needs-the-group"),
        pytest.param(None, 0o750, "disk", id="no-kvm"),
    ],
)
def test_where_guests_get_through_nothing_is_changed(host, tmp_path, device, folder, owners):
    kvm, running = host(device, folder, owners=owners)
    done = run(tmp_path, kvm, running)
    assert (done.returncode, done.stdout, told(tmp_path)) == (0, "", [])
    assert (mode(running), mode(running.parent)) == (folder, 0o755)


def test_a_folder_that_is_not_there_is_no_fault(tmp_path):
    done = run(tmp_path, tmp_path / "kvm", tmp_path / "none/qemu")
    assert (done.returncode, done.stdout, told(tmp_path)) == (0, "", [])


def test_a_folder_that_cannot_be_changed_is_told_with_the_cure(host, tmp_path):
    kvm, running = host(0o660, 0o750)
    done = run(tmp_path, kvm, running, more="chmod() { false; }; ")
    assert done.returncode == 0 and f"all guests run as libvirt's user: chmod o+x {running}" in done.stdout


def test_set_up_does_it_and_check_only_says_so(host, tmp_path):
    kvm, running = host(0o660, 0o750)
    debian = Debian(tmp_path, {})
    tell = f'told={tmp_path}; ' + SCRIPT.splitlines()[2].replace('$(dirname "$2")', "$told")
    debian.setup(more=tell)
    assert mode(running) == 0o751 and told(tmp_path)[-1] == f"--add root disk 0751 {running}"
    running.chmod(0o750)
    done = debian.setup("--check", more=tell)
    assert done.returncode == 1 and f"guests cannot pass through {running}" in done.stdout
    assert mode(running) == 0o750 and json.loads(debian.state.read_text())["installed"]

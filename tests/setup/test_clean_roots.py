"""Set-up on machines that have nothing: a new Debian each, up to QEMU's tools, a guest image, a libvirt that answers,
and `cumulet doctor`."""

import os
import re
import shutil
from pathlib import Path

import pytest

from harness.cloud import BIN
from setup.clean_root import CleanRoot, has_suite, mirror

BACKPORTS = "bookworm-backports"


@pytest.fixture(autouse=True)
def untouched():
    """What happens in a root stays in it: the host's own devices, mounts and folders are as they were."""

    def devices() -> dict[str, tuple]:
        names = [f"/dev/{name}" for name in ("kvm", "ptmx", "urandom", "net/tun") if os.path.lexists(f"/dev/{name}")]
        return {name: (s.st_mode, s.st_uid, s.st_gid) for name in names for s in [os.lstat(name)]}

    before = devices()
    yield
    assert devices() == before
    assert "cumulet-root-" not in Path("/proc/mounts").read_text()


def clean_root(*suites: str, **more) -> CleanRoot:
    """A root, or why there can't be one here."""
    if os.geteuid() != 0:
        pytest.skip("only root makes a clean root")
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed: scripts/setup-host --test")
    for suite in suites:
        if not has_suite(suite):
            pytest.skip(f"the mirror {mirror()[1]} has no {suite}, or doesn't answer")
    return CleanRoot(suites[0], suites[1:], binary=BIN, **more)


def sets_up(root: CleanRoot) -> str:
    """All that set-up promises, one after the other; what it said."""
    before = root.installed()
    done = root.run("scripts/setup-host", timeout=1200)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    after = root.installed()
    assert set(before) <= set(after), "something that was installed is gone"
    assert root.run("stat -c '%G %a' /dev/kvm").stdout == "kvm 660\n"
    works = root.run("qemu-img --version && qemu-img create -q -f qcow2 /tmp/disk.qcow2 1M && qemu-system-x86_64 --version")
    assert works.returncode == 0, works.stderr
    built = root.run("tests/guests/tiny/build /var/lib/set-up/disk.qcow2 && qemu-img check /var/lib/set-up/disk.qcow2")
    assert built.returncode == 0 and "No errors" in built.stdout, built.stdout + built.stderr
    asked = root.run('began=${EPOCHREALTIME/./}; virsh -c qemu:///system version && echo $((${EPOCHREALTIME/./} - began))')
    assert asked.returncode == 0 and "Running hypervisor: QEMU" in asked.stdout, asked.stderr
    assert int(asked.stdout.split()[-1]) < 3_000_000, "a call of libvirt takes more than 3 s"
    boots(root)
    doctor = root.run("cumulet doctor")
    assert doctor.returncode == 0 and "MISSING" not in doctor.stdout, doctor.stdout + doctor.stderr
    assert re.search(r"^ok +libvirt ", doctor.stdout, re.M) and re.search(r"^ok +qemu-img ", doctor.stdout, re.M)
    again = root.run("scripts/setup-host")
    assert (again.returncode, again.stdout) == (0, ""), again.stdout + again.stderr
    # Packages of some suites put the device right themselves, once.
    closed = root.run("chgrp root /dev/kvm; chmod 600 /dev/kvm; scripts/setup-host; stat -c '%G %a' /dev/kvm")
    assert "/dev/kvm was root:root 0600" in closed.stdout and closed.stdout.endswith("kvm 660\n"), closed.stdout
    return said


def boots(root: CleanRoot) -> None:
    """The versions of QEMU and libvirt that came together run a guest."""
    started = root.run("virsh -q -c qemu:///system create tests/setup/guest.xml")
    assert started.returncode == 0, started.stderr
    line = root.run("timeout 120 tail -F -n +1 /var/lib/set-up/console 2>/dev/null | grep -m 1 'cumulet-tiny first line'")
    assert line.returncode == 0, root.run("cat /var/lib/set-up/console; tail -n 20 /var/log/libvirt/qemu/set-up.log").stdout
    ended = root.run("virsh -q -c qemu:///system destroy set-up")
    assert ended.returncode == 0, ended.stderr


def test_debian_12_with_nothing_installed():
    with clean_root("bookworm") as root:
        said = sets_up(root)
        assert re.search(r"installing \d+ packages", said)
        folder = Path(root.folder)
    assert not folder.exists()


@pytest.mark.slow
def test_debian_12_with_a_qemu_utils_of_backports_that_apt_does_not_know_any_more():
    with clean_root("bookworm", BACKPORTS, include=(f"qemu-utils/{BACKPORTS}",)) as root:
        newer = root.installed()["qemu-utils"]
        assert "bpo12" in newer
        said = sets_up(root)
        older = root.installed()["qemu-utils"]
        assert "bpo12" not in older and f"qemu-utils {newer} for {older}; nothing is removed" in said


@pytest.mark.slow
def test_debian_12_with_a_qemu_utils_of_backports_takes_the_rest_from_there_too():
    with clean_root("bookworm", BACKPORTS, include=(f"qemu-utils/{BACKPORTS}",), keeps=(BACKPORTS,)) as root:
        newer = root.installed()["qemu-utils"]
        said = sets_up(root)
        after = root.installed()
        assert after["qemu-utils"] == after["qemu-system-x86"] == newer
        assert "from the suite that their installed packages came from" in said


@pytest.mark.slow
def test_debian_12_with_an_ordinary_busybox_keeps_it():
    with clean_root("bookworm", include=("busybox",)) as root:
        sets_up(root)
        assert "busybox" in root.installed()


@pytest.mark.slow
def test_debian_13_with_nothing_installed():
    with clean_root("trixie") as root:
        sets_up(root)

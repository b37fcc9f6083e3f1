"""What scripts/setup-host decides about packages, on a pretended Debian: nothing is removed unasked, what goes back
is told before, and apt's word is not enough."""

import json
import re
import sys
from pathlib import Path

import pytest

from setup.programs import ROOT, bash, path_of

NEWER, SUITE = "1:10.0.2+bpo", "1:7.2+dfsg"
BACKPORTED = {"bookworm": SUITE, "bookworm-backports": NEWER}
LIBVIRT = {"bookworm": "9.0", "trixie": "11.3"}


class Debian:
    """The pretended machine, and set-up on it."""

    def __init__(self, folder: Path, world: dict) -> None:
        self.folder, self.state = folder, folder / "world.json"
        bin = folder / "bin"
        bin.mkdir()
        fake = folder / "fake"
        source = (ROOT / "tests/setup/fake_debian.py").read_text()
        fake.write_text(f"#!{sys.executable} -I\n{source}")
        fake.chmod(0o755)
        for name in ("apt-get", "apt-cache", "dpkg-query", "id"):
            (bin / name).symlink_to(fake)
        table = (ROOT / "scripts/host/packages.sh").read_text()
        programs = dict(re.findall(r"(?<![\w/])([a-z][\w.-]*)=([a-z][\w-]+)", table))
        rest = {"installed": {}, "offers": {}, "excludes": {}, "unknown": [], "forgotten": [], "lost": []}
        status = {"apt_status": 0, "update_status": 0, "call_seconds": 0, "log": []}
        self.state.write_text(json.dumps(rest | status | {"programs": programs, "fake": str(fake)} | world))
        (folder / "os-release").write_text("VERSION_CODENAME=bookworm\n")
        guests = folder / "guests"
        guests.mkdir()
        for part in ("kernel", "busybox"):
            (guests / part).write_text(f'#!/bin/sh\necho "{part} $*" >>{folder}/parts\n')
            (guests / part).chmod(0o755)
        self.path = f"{bin}:{path_of(folder / 'essential')}"

    @property
    def world(self) -> dict:
        return json.loads(self.state.read_text())

    def setup(self, *arguments: str, more: str = ""):
        """Runs set-up's own `main`, its devices and folders being those of the pretended machine."""
        here = self.folder
        places = f"""
            . scripts/setup-host
            system_path=/nonexistent guests={here}/guests os_release={here}/os-release policy={here}/policy
            tun_device=/dev/null kvm_device={here}/kvm libvirt_socket={here}/libvirt-sock running={here}/libvirt/qemu
            {more}
            main "$@"
        """
        return bash(places, *arguments, PATH=self.path, FAKE_DEBIAN=str(here))


@pytest.fixture
def debian(tmp_path: Path):
    return lambda **world: Debian(tmp_path, world)


def test_a_bare_machine_gets_everything(debian):
    host = debian()
    done = host.setup("--test")
    assert done.returncode == 0, done.stderr
    assert re.search(r"installing (2\d|3\d) packages", done.stdout) and "a minute or two" in done.stdout
    assert {"qemu-utils", "qemu-system-x86", "mmdebstrap", "rabbitmq-server"} <= host.world["installed"].keys()
    assert not (host.folder / "policy").exists()
    # Once more: there is nothing to do, and nothing is done.
    again, log = host.setup("--test"), host.world["log"]
    assert (again.returncode, again.stdout) == (0, "") and len(log) == 2


@pytest.mark.parametrize(
    ("offers", "then", "said"),
    [
        pytest.param({"bookworm": SUITE}, SUITE, f"qemu-utils {NEWER} for {SUITE}; nothing is removed", id="goes-back"),
        pytest.param(BACKPORTED, NEWER, "the suite that their installed packages came from", id="same-suite"),
    ],
)
def test_a_newer_qemu_utils_stays_or_goes_back_but_is_never_removed(debian, offers, then, said):
    names = ("qemu-utils", "qemu-system-x86")
    host = debian(installed={"qemu-utils": NEWER}, offers={name: offers for name in names})
    done = host.setup()
    assert done.returncode == 0, done.stderr
    assert {name: host.world["installed"][name] for name in names} == dict.fromkeys(names, then)
    # Told before it is done.
    assert said in done.stdout and done.stdout.index(said) < done.stdout.index("installing")


def test_ceph_is_installed_for_the_tests_alone_and_its_driver_goes_with_qemu(debian):
    names = ("qemu-utils", "qemu-system-x86", "qemu-block-extra")
    host = debian(installed={"qemu-utils": NEWER}, offers={name: BACKPORTED for name in names})
    assert host.setup().returncode == 0
    ceph = {"ceph-mon", "ceph-osd", "ceph-common", "librbd1", "qemu-block-extra"}
    assert not ceph & host.world["installed"].keys()
    done = host.setup("--test")
    assert done.returncode == 0, done.stderr
    assert ceph <= host.world["installed"].keys()
    assert {host.world["installed"][name] for name in names} == {NEWER}


def test_a_newer_libvirt_is_the_same_case(debian):
    names = ("libvirt-daemon-system", "libvirt-daemon-driver-qemu", "libvirt-clients", "libvirt-dev", "libvirt0")
    host = debian(installed={"libvirt0": "11.3"}, offers={name: {"bookworm": "9.0"} for name in names})
    done = host.setup()
    assert done.returncode == 0, done.stderr
    assert "libvirt0 11.3 for 9.0" in done.stdout and host.world["installed"]["libvirt0"] == "9.0"


def test_what_would_be_removed_is_named_and_stays(debian):
    host = debian(installed={"dnsmasq-other": "1"}, excludes={"dnsmasq-other": ["dnsmasq-base"]})
    done = host.setup()
    assert done.returncode == 1 and "apt would remove dnsmasq-other" in done.stderr
    assert host.world["installed"] == {"dnsmasq-other": "1"} and host.world["log"] == []


def test_an_ordinary_busybox_stays_and_the_static_one_is_fetched(debian):
    host = debian(installed={"busybox": "1"}, excludes={"busybox": ["busybox-static"]})
    done = host.setup()
    assert done.returncode == 0, done.stderr
    assert "busybox" in host.world["installed"] and "busybox-static" not in host.world["installed"]
    assert "busybox" in (host.folder / "parts").read_text()


@pytest.mark.parametrize(
    ("world", "named"),
    [
        pytest.param({"lost": ["qemu-img"]}, "still missing: qemu-img (of qemu-utils)", id="program"),
        pytest.param({"forgotten": ["nftables"]}, "still missing: package nftables", id="package"),
        pytest.param({"lost": ["ip", "bridge"]}, "ip (of iproute2), bridge (of iproute2)", id="two"),
        pytest.param({"apt_status": 100}, "apt failed", id="apt-failed"),
        pytest.param({"unknown": ["dropbear-bin"]}, "apt can't install", id="unknown-package"),
    ],
)
def test_success_is_what_is_there(debian, world, named):
    done = debian(**world).setup()
    assert done.returncode == 1 and named in done.stderr


def test_a_program_that_got_lost_since_is_missed(debian):
    host = debian()
    assert host.setup().returncode == 0
    (host.folder / "bin/nft").unlink()
    done = host.setup()
    assert done.returncode == 1 and "nft (of nftables)" in done.stderr


def test_old_lists_do_when_new_ones_cannot_be_had(debian):
    done = debian(update_status=100).setup()
    assert done.returncode == 0 and "going on with the lists that are here" in done.stdout


def test_check_changes_nothing(debian):
    host = debian()
    before = host.state.read_text()
    done = host.setup("--check")
    assert done.returncode == 1 and "package qemu-utils" in done.stdout and "libvirtd does not answer" in done.stdout
    assert host.state.read_text() == before


def test_a_slow_libvirt_is_told_with_its_cause(debian):
    host = debian(call_seconds=0.15)
    quick = host.setup(more="slow_hundredths=300")
    assert quick.returncode == 0 and "for a call" not in quick.stdout
    slow = host.setup(more="slow_hundredths=10; kvm_device=/dev/zero; kvm_group_opens() { false; }; open_kvm() { :; }")
    assert slow.returncode == 0
    assert re.search(r"libvirt takes 0\.\d\d s for a call.*the group kvm cannot open /dev/zero", slow.stdout), slow.stdout


def test_a_libvirt_that_is_only_slow_is_waited_for(debian):
    host = debian(call_seconds=0.3)
    assert host.setup().returncode == 0
    done = host.setup(more='libvirt_call() { [ "$1" != 5 ] || return 124; printf 1200; }')
    assert "waiting for it for up to 120 s" in done.stderr and "takes 12.00 s for a call" in done.stdout
    assert (host.folder / "started").read_text() == "libvirtd\n", "nobody started a second one"


def test_no_tun_is_said_before_a_guest_needs_it(debian):
    done = debian().setup(more="tun_device=/nonexistent/tun")
    assert done.returncode == 1 and "no /nonexistent/tun" in done.stderr

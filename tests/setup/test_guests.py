"""The guest builders say what they need before they begin, and need no more than they say."""

import re
import stat
from pathlib import Path

import pytest

from setup.programs import bash, path_of

# What each says it needs, besides the programs that every Debian has.
DISK = ("mkfs.vfat", "mcopy", "mattrib", "syslinux", "mke2fs", "sfdisk", "qemu-img", "flock", "dpkg-query")
NEEDS = {
    "tiny": (*DISK, "cpio", "debugfs", "ldd"),
    "debian": (*DISK, "mmdebstrap", "apt-cache"),
}
CURE = {"tiny": "scripts/setup-host installs", "debian": "scripts/setup-host --test installs"}


def build(guest: str, path: str, out: Path):
    """Runs a builder with its cache beside the result, and only what is on the path."""
    run = f'export system_path=; exec tests/guests/{guest}/build "$1"'
    home = str(out.parent / "cache")
    return bash(run, str(out), PATH=path, XDG_CACHE_HOME=home, HOME=home, timeout=300)


@pytest.mark.parametrize(("guest", "program"), [(guest, program) for guest, needs in NEEDS.items() for program in needs])
def test_a_missing_program_is_named_before_anything_is_begun(tmp_path, guest, program):
    path = path_of(tmp_path / "bin", *(n for n in NEEDS[guest] if n != program), without=(program,))
    done = build(guest, path, tmp_path / "out.qcow2")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and f"{guest}/build: needs {program}, which" in lines[0] and CURE[guest] in lines[0]
    assert not (tmp_path / "cache").exists() and not (tmp_path / "out.qcow2").exists()


def test_all_that_is_missing_is_told_at_once(tmp_path):
    for guest, needs in NEEDS.items():
        done = build(guest, path_of(tmp_path / guest, without=needs), tmp_path / "out.qcow2")
        named = re.search(r"needs (.*), which this host lacks", done.stderr)
        assert named and set(named[1].split(", ")) == set(needs), done.stderr


def test_the_tiny_guest_is_built_of_what_it_says(tmp_path):
    # The host's own cache of the kernel is what it is made of.
    (tmp_path / "cache/cumulet/guests").mkdir(parents=True)
    kernel = bash('tests/guests/kernel | head -n 1', HOME=str(Path.home())).stdout.strip()
    if not kernel.startswith("/boot/"):
        root = Path(kernel).parents[1]
        (tmp_path / "cache/cumulet/guests/kernel").mkdir()
        (tmp_path / "cache/cumulet/guests/kernel/root").symlink_to(root)
    path = path_of(tmp_path / "bin", *NEEDS["tiny"], "dropbear")
    done = build("tiny", path, tmp_path / "out.qcow2")
    assert done.returncode == 0 and "not found" not in done.stderr, done.stderr
    assert done.stderr.startswith("building the tiny guest image; some ten seconds\n")
    assert (tmp_path / "out.qcow2").read_bytes()[:4] == b"QFI\xfb"


BOOTSTRAP = """#!/bin/sh
# Pretends: an installed system of two files.
while [ $# -gt 2 ]; do shift; done
mkdir -p "$1/boot" "$1/etc"
echo kernel >"$1/boot/vmlinuz-1"; echo initrd >"$1/boot/initrd.img-1"
cat >"$1/etc/sources"
"""


def test_the_debian_guest_is_built_of_what_it_says(tmp_path):
    folder = tmp_path / "bin"
    path = path_of(folder, *NEEDS["debian"], without=("mmdebstrap",))
    (folder / "mmdebstrap").unlink(missing_ok=True)
    (folder / "mmdebstrap").write_text(BOOTSTRAP)
    (folder / "mmdebstrap").chmod(0o755 | stat.S_IXUSR)
    done = build("debian", path, tmp_path / "out.qcow2")
    assert done.returncode == 0 and "not found" not in done.stderr, done.stderr
    assert (tmp_path / "out.qcow2").read_bytes()[:4] == b"QFI\xfb"


SOURCES = """# by the image
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: SUITE SUITE-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security/
Suites: SUITE-security
Components: main contrib

Enabled: no
Types: deb
URIs: http://gone.example/debian
Suites: SUITE
Components: main
"""
OWN = [
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main",
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm-updates main",
    "deb http://mirror.example/debian-security/ bookworm-security main contrib",
]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"sources.list.d/debian.sources": SOURCES.replace("SUITE", "bookworm")}, OWN, id="deb822"),
        pytest.param({"sources.list": "\n".join(OWN)}, OWN, id="one-line"),
        pytest.param(
            {"sources.list.d/debian.sources": SOURCES.replace("SUITE", "trixie")},
            ["deb http://mirror.example/debian bookworm main"], id="another-suite",
        ),
        pytest.param({"sources.list": "deb http://x.example/ubuntu noble main"}, ["deb http://deb.debian.org/debian bookworm main"], id="no-mirror"),
        pytest.param({}, ["deb http://deb.debian.org/debian bookworm main"], id="nothing"),
    ],
)  # fmt: skip
def test_the_debian_guest_comes_from_this_machines_mirror(tmp_path, files, expected):
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    script = 'here=tests/guests/debian suite=bookworm; eval "$(sed -n "/^mirrors() {/,/^}/p;/^one_line_sources() {/,/^}/p" $here/build | sed "s|/etc/apt|$1|g")"; mirrors'
    done = bash(script, str(tmp_path))
    assert done.stdout.splitlines() == expected, done.stderr

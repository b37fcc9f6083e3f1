"""What scripts/run finds out before anything is installed or compiled: one sentence each, with its cure."""

import os
import socket
from pathlib import Path

import pytest

from setup.programs import ROOT, bash, path_of

CHANNEL = next(
    line.split('"')[1] for line in (ROOT / "rust-toolchain.toml").read_text().splitlines() if line.startswith("channel")
)


def early(call: str, *arguments: str, **environment: str):
    return bash(f'. scripts/run; {call} "$@"', *arguments, **environment)


def refused(done, *words: str) -> None:
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("run: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_who_is_not_root_is_told_so(tmp_path):
    folder = tmp_path / "bin"
    path = path_of(folder, without=("id",))
    (folder / "id").write_text("#!/bin/sh\necho 1000\n")
    (folder / "id").chmod(0o755)
    refused(early("check_root", PATH=path), "run this as root", "sudo make run")


@pytest.mark.parametrize("given", ["8773", "localhost", ":8773", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:http", "a b:1"])
def test_listen_has_to_be_an_address_with_a_port(given):
    refused(early("check_listen", given), f"LISTEN={given} is no address", "127.0.0.1:8773")


def test_listen_has_to_be_of_this_host():
    refused(early("check_listen", "192.0.2.77:8773"), "no address 192.0.2.77")


@pytest.mark.parametrize(("taken", "given"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("::1", "[::1]"), ("::1", "[::]")])
def test_a_port_that_is_taken_is_told_with_who_has_it(taken, given):
    with socket.socket(socket.AF_INET6 if ":" in taken else socket.AF_INET) as server:
        try:
            server.bind((taken, 0))
        except OSError as error:
            pytest.skip(f"{taken} is not of this host: {error}")
        server.listen()
        port = server.getsockname()[1]
        refused(early("check_listen", f"{given}:{port}"), f"port {port} is in use", str(os.getpid()), f"LISTEN={given}:{port + 1}")
    done = early("check_listen", f"{given}:{port}")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_state_directory_can_be_reached(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    # The tests' own folder may be below one that is closed too.
    refused(early("check_state_dir", str(closed / "state")), "has mode 7", "libvirt-qemu", "STATE_DIR=/var/lib/cumulet")
    for open_to_all in ("/var/lib/cumulet", "/srv/a/b/c", "/"):
        assert early("check_state_dir", open_to_all).returncode == 0


def test_disk_space_is_added_up_on_each_file_system(tmp_path):
    free = early('df -Pm -- "$1" | awk "NR == 2 { print \\$4 }"; true', str(tmp_path)).stdout.split("\n")[-2]
    third = int(free.split()[0]) * 2 // 5
    inside = [f"{tmp_path}/{name}/deep={third}" for name in ("a", "b", "c")]
    assert early("check_space", *inside[:2]).returncode == 0
    refused(early("check_space", *inside), f"{3 * third} are needed", f"{tmp_path}/c/deep", "CARGO_TARGET_DIR")


def cargo(tmp_path: Path, **programs: str) -> str:
    folder = tmp_path / "bin"
    path = path_of(folder)
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        pytest.param({}, ("there is no cargo here", "https://sh.rustup.rs", CHANNEL), id="none"),
        pytest.param({"cargo": "", "rustc": "echo rustc 1.9.0"}, ("rustc is 1.9.0", CHANNEL), id="far-too-old"),
        pytest.param({"cargo": "", "rustc": "echo rustc 1.63.0"}, ("rustc is 1.63.0", CHANNEL), id="too-old"),
        pytest.param({"cargo": "", "rustc": "echo broken >&2; exit 1"}, ("rustc does not run here (broken)",), id="broken"),
        pytest.param(
            {"cargo": "", "rustc": "", "rustup": '[ "$1 $2" != "toolchain install" ]'},
            ("could not fetch Rust", f"rustup toolchain install {CHANNEL}"), id="no-network",
        ),
    ],
)  # fmt: skip
def test_the_toolchain_is_looked_for(tmp_path, programs, words):
    refused(early("check_cargo", PATH=cargo(tmp_path, **programs)), *words)


@pytest.mark.parametrize("version", [CHANNEL, "1.100.0", "1.999.0"])
def test_a_toolchain_that_will_do_is_left(tmp_path, version):
    done = early("check_cargo", PATH=cargo(tmp_path, cargo="", rustc=f"echo 'rustc {version} (abc)'"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_cargo_is_found_where_rustup_puts_it(tmp_path):
    path = path_of(tmp_path / "bin")
    (tmp_path / ".cargo/bin").mkdir(parents=True)
    (tmp_path / ".cargo/bin/cargo").symlink_to("/bin/true")
    done = bash(". scripts/env.sh; command -v cargo", PATH=path, HOME=str(tmp_path))
    assert done.stdout == f"{tmp_path}/.cargo/bin/cargo\n"


def test_the_order_is_what_can_fail_first(tmp_path):
    """Every check, then the host, then the guest image, and only then the compiler."""
    record = """
        . scripts/run
        check_root() { :; }
        for name in check_listen check_state_dir check_disks check_cargo build; do eval "$name() { echo $name; }"; done
        state=/var/lib/cumulet listen=127.0.0.1:8773
        real=$(declare -f main); real=${real//scripts\\/setup-host/echo host}; real=${real//tests\\/guests\\/tiny\\/build/echo guest}
        eval "${real/exec/echo up}"
        main
    """
    words = [line.split()[0] for line in bash(record).stdout.splitlines()]
    assert words == ["check_listen", "check_state_dir", "check_disks", "check_cargo", "host", "guest", "build", "up"]

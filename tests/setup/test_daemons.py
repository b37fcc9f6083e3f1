"""Daemons that set-up starts outlive it: they keep none of its caller's files open."""

from pathlib import Path

from setup.programs import bash


def test_a_daemon_holds_no_lock_of_its_caller(tmp_path: Path):
    lock = tmp_path / "lock"
    script = f"""
        exec 3>{lock} 9>{lock}
        . scripts/setup-host
        as_root() {{ "$@"; }}
        as_daemon ls -l /proc/self/fd
    """
    done = bash(script)
    assert done.returncode == 0, done.stderr
    assert "/proc/" in done.stdout and str(lock) not in done.stdout

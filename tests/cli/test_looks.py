"""Commands that only look: they make and change nothing, and a process whose master key is not the cloud's says so. Each
command of the command line is one of them, or is listed as one that changes something."""

import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from harness.cloud import BIN, Cloud
from harness.ec2 import running

pytestmark = pytest.mark.one_process
# SQLite's, which come and go with whoever has the database open.
PASSING = ("cumulet.db-wal", "cumulet.db-shm")
LOOKS = [
    ["audit"], ["audit", "--json"], ["audit", "--host", "another"], ["env"], ["doctor"], ["db", "status"],
    ["image", "list"], ["image", "alias", "list"], ["account", "list"],
    ["user", "list", "--account", "ACCOUNT"], ["access-key", "list", "--account", "ACCOUNT"],
    ["admin", "cloud"], ["admin", "host", "list"], ["admin", "host", "show", "HOST"], ["admin", "service", "list"],
    ["admin", "aggregate", "list"], ["admin", "instance-type", "extra-specs"], ["admin", "console", "INSTANCE"], ["admin", "console-key"],
    ["admin", "broker", "control-user"], ["admin", "broker", "host-user", "HOST"],
]  # fmt: skip
CHANGES = [
    "up", "db migrate", "account create", "user create", "access-key create", "access-key disable", "access-key enable", "access-key delete",
    "image import", "image delete", "image alias set", "image alias remove",
    "admin host confirm", "admin host disable", "admin host enable", "admin host drain", "admin host remove",
    "admin host forget-pool", "admin host maintenance",
    "admin aggregate create", "admin aggregate delete", "admin aggregate add-host", "admin aggregate remove-host", "admin aggregate set",
    "admin instance-type set",
]  # fmt: skip
# Those that open no cloud: there is no saying which.
OF_NO_CLOUD = ["config", "simulate", "crash-points"]
# What the program's help does not list.
HIDDEN = ["crash-points"]


@pytest.fixture(scope="module")
def stopped():
    """A cloud that ran, had an instance, and is down."""
    with Cloud("fake", cluster="") as cloud:
        (instance,) = running(cloud.first_account())
        words = {"ACCOUNT": cloud.run("account", "list").split()[0], "HOST": os.uname().nodename, "INSTANCE": instance}
        cloud.stop()
        yield cloud, words


def rows(database: Path) -> str:
    """What SQLite's file says: who closes it last may move what its journal holds into it."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return "\n".join(connection.iterdump())


def tree(folder: Path) -> dict[str, tuple]:
    """Everything below a folder, with its mode and, of files, what is in it."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        if path.name not in PASSING:
            content = rows(path) if path.suffix == ".db" else path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(folder))] = (oct(path.lstat().st_mode), content)
    return found


def help_of(*words: str) -> str:
    done = subprocess.run([BIN, *words, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout, done
    return done.stdout


def commands(*words: str) -> list[str]:
    """The commands that do something, by the program's own help."""
    _, _, listed = help_of(*words).partition("\nCommands:\n")
    below = [name for name in re.findall(r"^  ([a-z][a-z-]*)", listed.partition("\nOptions:\n")[0], re.M) if name != "help"]
    return [command for name in below for command in commands(*words, name)] if below else [" ".join(words)]


def test_each_command_is_known_to_look_or_to_change_something():
    found = commands() + HIDDEN
    assert {"image alias list", "admin console-key", "admin aggregate add-host"} <= set(found), found
    looks = {command for look in LOOKS for command in found if look[: len(command.split())] == command.split()}
    assert len(found) == len(set(found))
    assert not looks & {*CHANGES, *OF_NO_CLOUD} and not {*CHANGES} & {*OF_NO_CLOUD}
    # A new command is put into one of the three lists: where it says that it changes nothing, it is tried below.
    assert looks | {*CHANGES, *OF_NO_CLOUD} == set(found)
    # Each of them begins with one command: none is tried under a name that there is not.
    assert all(any(look[: len(command.split())] == command.split() for command in looks) for look in LOOKS)
    for command in found:
        assert ("--state-dir" in help_of(*command.split())) == (command not in OF_NO_CLOUD), command


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_a_look_changes_nothing(stopped, look: list[str]):
    cloud, words = stopped
    before = tree(cloud.state)
    done = cloud.execute(*(words.get(word, word) for word in look))
    assert "Usage:" not in done.stderr, done.stderr
    assert tree(cloud.state) == before, done
    if "another" in look:
        assert done.returncode == 1 and f"here have: {words['HOST']}" in done.stderr, done


@pytest.mark.parametrize("look", [look for look in LOOKS if look != ["doctor"]], ids=" ".join)
def test_where_no_cloud_was_nothing_is_made(tmp_path: Path, look: list[str]):
    words = {"ACCOUNT": "000000000001", "HOST": "node-1", "INSTANCE": "i-0123456789abcdef0"}
    command = [BIN, *(words.get(word, word) for word in look), "--state-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"there is no cloud in {tmp_path}" in done.stderr, done
    assert list(tmp_path.iterdir()) == []


def test_a_key_for_consoles_is_made_by_a_start_alone(stopped):
    cloud, words = stopped
    database = cloud.state / "cumulet.db"
    with closing(sqlite3.connect(database)) as connection:
        (kept,) = connection.execute("SELECT value FROM settings WHERE name = 'console_key'").fetchone()
        connection.execute("DELETE FROM settings WHERE name = 'console_key'")
        connection.commit()
    before = tree(cloud.state)
    for command in (["admin", "console-key"], ["admin", "console", words["INSTANCE"]]):
        done = cloud.execute(*command)
        assert done.returncode == 1 and "the cloud has no key for consoles yet: a start with this program makes it" in done.stderr, done
        assert tree(cloud.state) == before, done
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO settings (name, value) VALUES ('console_key', ?)", (kept,))
        connection.commit()
    assert cloud.run("admin", "console-key")


def test_an_audit_needs_no_key(stopped):
    cloud, _ = stopped
    key, kept = cloud.state / "master.key", cloud.home / "kept"
    shutil.move(key, kept)
    try:
        done = cloud.execute("audit")
        assert done.returncode == 0, done.stderr
        assert not key.exists()
    finally:
        shutil.move(kept, key)


@pytest.mark.parametrize("other", [None, b"x" * 32], ids=["none", "another"])
def test_a_process_without_the_clouds_key_says_so(stopped, other: bytes | None):
    cloud, _ = stopped
    key, kept = cloud.state / "master.key", cloud.home / "kept"
    shutil.move(key, kept)
    try:
        if other:
            key.write_bytes(other)
            key.chmod(0o600)
        for command in (["image", "list", "--state-dir", cloud.state], cloud.processes[0].command[1:]):
            done = subprocess.run([BIN, *command], capture_output=True, text=True, timeout=60, env=cloud.environment())
            sentence = f"the master key {key} is not this cloud's: copy" if other else f"there is no master key {key}: copy"
            assert done.returncode == 1 and sentence in done.stderr, done
            assert key.exists() == bool(other), "nothing but the first start makes a master key"
    finally:
        shutil.move(kept, key)

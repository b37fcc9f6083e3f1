"""F35, F36: what earlier programs have left, with ten running guests and operations under way, comes up under this one
on each database, also when that is killed at every step of its start. No guest notices; what was under way ends as it
should; database and hosts agree. The fixtures are made by make_fixture.py (docs/upgrades.md)."""

import fcntl
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import figures
from harness.cloud import BIN, TINY, Account, Key
from harness.crash import is_migration, step_of, up_points
from harness.ec2 import instances, running, wait
from harness.folder import own
from harness.site import Role
from harness.storage_after import Storage
from harness.upgrade import FIXTURES, KINDS, Restored, manifest
from harness.wait import until

OLD = os.environ.get("CUMULET_OLD_BIN")
# How long a guest that is to be stopped may take.
GRACE = 5
# What is under way ends in so many seconds: emulated guests are begun meanwhile, and commands are sent again.
SETTLED = 120.0


def fixtures() -> list[Path]:
    return sorted(FIXTURES.glob("*/*.tar.xz"))


def kind(fixture: Path) -> str:
    return fixture.name.split(".")[0]


def newest() -> str:
    """The name of the fixture that was made last."""
    return max(fixtures(), key=lambda path: manifest(path)["taken"]).parent.name


def each(kinds: tuple[str, ...] = KINDS, quick: tuple[str, ...] = ()):
    """A parameter for each fixture of these databases. What is not the newest one of a quick database is for
    scripts/test-faults."""
    fast = [FIXTURES / newest() / f"{name}.tar.xz" for name in quick]
    values = [
        pytest.param(path, id=f"{path.parent.name}-{kind(path)}", marks=[] if path in fast else [pytest.mark.slow])
        for path in fixtures()
        if kind(path) in kinds
    ]
    return pytest.mark.parametrize("fixture", values)


@contextmanager
def alone():
    """The fixtures' hosts have addresses of their own: one test at a time on this machine."""
    with (own() / "upgrade").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Pings:
    """Packets to a guest from its host, once a second, answered or not."""

    def __init__(self, restored: Restored, id: str) -> None:
        host = next(h for h in restored.cloud.hosts if h.name == restored.manifest["guests"][id]["host"])
        self.id, self.output = id, host.machine.root / f"pings.{id}"
        self.program = host.machine.launch("busybox", "ping", restored.manifest["guests"][id]["public"], output=self.output)

    def answered(self) -> int:
        return self.output.read_text().count(" bytes from ")

    def ended(self) -> None:
        """All were answered; the last one may still be on its way."""
        self.program.send_signal(2)
        self.program.wait(10)
        (line,) = [line for line in self.output.read_text().splitlines() if "packets transmitted" in line]
        sent, received = (int(part.split()[0]) for part in line.split(",")[:2])
        assert sent - received <= 1, f"{self.id}: {line}"


class Upgrade:
    """A restored cloud, what its guests were before, and what has to be true of them."""

    def __init__(self, restored: Restored) -> None:
        self.restored, self.cloud, self.manifest = restored, restored.cloud, restored.manifest
        restored.booted()
        self.guests = list(self.manifest["guests"])
        self.programs = restored.programs()
        assert sorted(self.programs) == sorted(restored.kept), "every guest runs"
        self.pings = [Pings(restored, id) for id in self.guests]
        for pings in self.pings:
            until(pings.answered, f"{pings.id} answers", 30)
        self.account = Account(self.cloud, self.manifest["account"], Key(*self.manifest["key"]))
        self.storage = Storage(self.cloud, self.account, self.manifest)

    # ---- the start

    def die(self, point: str) -> None:
        """Everything that has to do with the point is started to die there, and does; the rest is killed."""
        cloud, where = self.cloud, {"CUMULET_CRASH_AT": point}
        if self.manifest["kind"] == "sqlite":
            self._dies(cloud.hosts[0].roles["all"], where)
        elif step_of(point) == "restored":
            self._control()
            for host in cloud.hosts:
                self._dies(host.roles["compute"], where)
        else:
            # The process that comes first migrates, and the conductor goes on.
            name = "conductor" if step_of(point) in ("adopted", "caught-up") else "gateway"
            process = cloud.role(name)
            process.launch(cloud.environment(), where)
            assert process.wait_death(60) < 0, process.tail()
        cloud.kill()

    def _control(self) -> None:
        for process in self.cloud.processes:
            process.launch(self.cloud.environment(), {})
        for process in self.cloud.processes:
            process.wait_ready(60)

    @staticmethod
    def _dies(role: Role, where: dict[str, str]) -> None:
        host = role.host
        host.variables = where
        if not host._bus:
            host._admit()
        role.launch()
        until(lambda: role.program.poll() is not None, f"the death of {role.name} on {host.name}", 90, every=0.05)
        assert "panicked" not in role.said(), role.said()[-2000:]
        role.program, host.variables = None, {}

    # ---- what has to be true

    def untouched(self) -> None:
        """Every guest has the program and the disks that it had and has booted once, and no packet was lost."""
        assert self.restored.programs().items() >= self.programs.items()
        self.storage.untouched()
        for id in self.guests:
            assert self.restored.console(id).count("cumulet-tiny ready") == 1, id

    def described(self) -> None:
        seen = {i["InstanceId"]: i for i in instances(self.account.ec2)}
        for id, was in self.restored.kept.items():
            there = seen[id]["State"]["Name"], seen[id]["PrivateIpAddress"], seen[id]["PublicIpAddress"]
            assert there == ("running", was["private"], was["public"])
        self.storage.described()

    def settled(self) -> None:
        """What was under way has ended as it should, and database and hosts agree."""
        expected = self.manifest["expected"]

        def ended():
            seen = {i["InstanceId"]: i["State"]["Name"] for i in instances(self.account.ec2)}
            differ = {id: seen.get(id) for id, state in expected.items() if seen.get(id, "terminated") != state}
            assert not differ, differ
            return self.storage.ended()

        until(ended, "all that was under way has ended", SETTLED)
        self.cloud.wait_clean(60)

    def works(self) -> None:
        """Storage of before is used, an instance is launched, and one of before ended."""
        self.storage.works()
        (new,) = running(self.account, 1, InstanceType="t2.nano")
        last = self.guests.pop()
        self.pings.pop().ended()
        self.programs.pop(last)
        self.account.ec2.terminate_instances(InstanceIds=[new, last])
        wait(self.account, [new, last], "terminated")
        assert last not in self.restored.programs()
        self.storage.end_of(last)
        self.cloud.wait_clean(60)

    def all_well(self) -> None:
        self.settled()
        self.described()
        self.untouched()
        self.works()
        self.untouched()
        self.storage.tidy()
        for pings in self.pings:
            pings.ended()
        assert "panicked at" not in self.cloud.text()


def pending(restored: Restored) -> list[str]:
    """The points of the migrations that the fixture's program did not know."""
    sql = restored.parts["database.sql"][1].decode()
    return [point for point in up_points() if is_migration(point) and step_of(point) not in sql]


@contextmanager
def upgrade(fixture: Path, binary: Path = BIN):
    assert os.geteuid() == 0, "hosts need root"
    assert TINY.exists(), f"{TINY} is not built (tests/guests/tiny/build)"
    with alone(), Restored(fixture, binary, GRACE) as restored:
        yield Upgrade(restored)


def test_there_is_a_fixture_of_each_database():
    names = {path.parent.name for path in fixtures()}
    assert names and {(path.parent.name, kind(path)) for path in fixtures()} == {(name, k) for name in names for k in KINDS}


@each(quick=("postgresql",))
def test_f35_killed_at_every_step_of_its_start(fixture: Path):
    with upgrade(fixture) as up:
        with figures.trial("F35 killed at every step") as trial:
            for point in pending(up.restored) + [point for point in up_points() if not is_migration(point)]:
                up.die(point)
            trial.back()
            up.cloud.start()
            up.settled()
            trial.recovered()
        up.all_well()


@each()
def test_f35_undisturbed(fixture: Path):
    with upgrade(fixture) as up:
        with figures.trial("F35") as trial:
            trial.back()
            up.cloud.start()
            up.settled()
            trial.recovered()
        up.all_well()


@pytest.mark.skipif(not OLD, reason="CUMULET_OLD_BIN, the program of the fixtures, is not there")
@each(kinds=("postgresql", "mariadb"))
def test_f36_hosts_of_before_under_this_control_plane(fixture: Path):
    """Roles are replaced one after the other: the control plane first, the hosts one by one. (A cloud of one process is
    replaced as a whole.)"""
    with upgrade(fixture) as up:
        for host in up.cloud.hosts:
            host.binary = OLD
        up.cloud.start()
        up.settled()
        up.described()
        (new,) = running(up.account, 1, InstanceType="t2.nano")
        for host in up.cloud.hosts:
            host.stop()
            host.binary = BIN
            host.start()
            up.untouched()
        up.account.ec2.terminate_instances(InstanceIds=[new])
        wait(up.account, [new], "terminated")
        up.all_well()
        # Who has been replaced does not come back by mistake.
        up.cloud.role("gateway").stop()
        words = [OLD, "up", "--role", "gateway", "--state-dir", up.cloud.state, "--listen", up.cloud.address, "--driver", "libvirt"]
        done = subprocess.run(words, env=up.cloud.environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and "newer" in done.stderr + done.stdout, done.stderr

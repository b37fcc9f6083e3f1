"""Makes the fixture of an upgrade out of any program: ten guests that run, on three hosts (with SQLite on one), their
volumes, snapshots and images, and what was under way when every process was killed. docs/upgrades.md says when one is due.

    CUMULET_TINY_IMAGE=… venv/bin/python tests/upgrade/make_fixture.py --program OLD --name NAME [--database KIND]...

It needs what the tests with real guests need (root, `scripts/setup-host --test`), and writes
tests/upgrade/fixtures/NAME/KIND.tar.xz."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import upgrade  # noqa: E402
from harness.crash import last_words  # noqa: E402
from harness.ec2 import default_group, instances, run, running, wait  # noqa: E402
from harness.guest import allow  # noqa: E402
from harness.machines import Machines  # noqa: E402
from harness.site import Host, Site  # noqa: E402
from harness.storage_after import SMALL  # noqa: E402
from harness.storage_before import Storage  # noqa: E402
from harness.wait import until  # noqa: E402

# A stop that no guest complies with goes on for so long.
GRACE = 600
# What is under way on guests, each on its own.
GUESTS = ("stop", "terminate", "attach-volume", "detach-volume", "create-snapshot")
# Where a worker dies on each of three hosts; whatever no worker has died of is sent and not carried out.
DEATHS = {
    "postgresql": (("attach-volume", "plugged"), ("create-snapshot", "copied"), ("terminate", "begun")),
    "mariadb": (("launch", "disk"), ("stop", "begun"), ("detach-volume", "unplugged")),
}


def point(program: Path, operation: str, step: str) -> str:
    names = subprocess.run([program, "crash-points"], check=True, capture_output=True, text=True).stdout.split()
    (found,) = [name for name in names if name.startswith(f"{operation}.") and name.endswith(f".{step}")]
    return found


def rows(cloud: Site, kind: str, text: str) -> list[str]:
    if kind == "sqlite":
        from contextlib import closing
        from sqlite3 import connect

        with closing(connect(cloud.state / "cumulet.db", timeout=30)) as connection:
            return ["|".join(map(str, row)) for row in connection.execute(text)]
    return cloud.server.sql(text, cloud.vhost).stdout.strip().splitlines()


def name_of(number: str) -> str:
    """An instance's id, of the number that databases keep."""
    return f"i-{int(number) % 2**64:017x}"


def active(cloud: Site, kind: str) -> list[str]:
    """What is under way: kinds and steps."""
    return [" ".join(row.replace("|", "\t").split("\t")) for row in rows(
        cloud, kind, "select kind, step from operations where status = 'active' order by kind, id")]  # fmt: skip


class Maker:
    """One fixture's cloud, from its start to its death."""

    def __init__(self, cloud: Site, kind: str, program: Path) -> None:
        self.cloud, self.kind, self.program = cloud, kind, program
        cloud.start()
        self.account = cloud.first_account()
        self.ec2 = self.account.ec2
        allow(self.account, default_group(self.ec2), "icmp", (-1, -1))
        # Three with what is to stay as it was; of the others one for each of what is to be under way.
        self.guests = running(self.account, 11, **SMALL)
        self._booted()
        self.storage = Storage(cloud, self.account)
        self.storage.prepare(self.guests[:3])
        self.free = self.guests[3:]
        (self.stopped,) = running(self.account, 1, **SMALL, BlockDeviceMappings=self.storage.disks())
        self.ec2.stop_instances(InstanceIds=[self.stopped], Force=True)
        wait(self.account, [self.stopped], "stopped")
        self.last = self.storage.with_disks()
        # What is to become of instances that neither go on running nor are to be stopped or ended.
        self.expected: dict[str, str] = {}

    def _booted(self) -> None:
        """Who has not booted lets go of no disk."""
        for id in self.guests:
            until(lambda id=id: "cumulet-tiny ready" in self.ec2.get_console_output(InstanceId=id).get("Output", ""), id, 300)

    def _launch(self, **more) -> None:
        # The caller may die with its answer on the way: what was made is looked for at the end.
        last_words(lambda: run(self.account, 1, **SMALL, **more))

    def _armed(self, host: Host, operation: str, step: str) -> None:
        """From now on the host's worker dies there."""
        host.variables = {"CUMULET_CRASH_AT": point(self.program, operation, step)}
        for role in host.roles.values():
            if role.name in ("all", "compute"):
                role.kill()
        host.start()

    @staticmethod
    def _dead(hosts: list[Host]) -> Host:
        """The first whose worker has died; it is dead as a whole then."""
        gone = lambda: next((h for h in hosts for r in h.roles.values() if r.program and r.program.poll() is not None), None)  # noqa: E731
        host = until(gone, "the death of a worker", 60, every=0.05)
        host.kill()
        return host

    def _take(self, host: Host | None) -> str:
        """A guest with which nothing else is done: on that host, or where there are most."""
        where = [self.cloud.host_of(id) for id in self.free]
        id = self.free[where.index(host or max(where, key=where.count))]
        self.free.remove(id)
        return id

    def _prepared(self, operation: str, host: Host | None) -> Callable:
        """What begins an operation, on that host or on any."""
        guest, storage = self._take(host), self.storage
        if operation == "stop":
            self.deaf = guest
            return lambda: self.ec2.stop_instances(InstanceIds=[guest])
        if operation == "terminate":
            self.ended = guest
        prepare = {
            "terminate": storage.end, "attach-volume": storage.attach, "detach-volume": storage.detach,
            "create-snapshot": storage.take,
        }  # fmt: skip
        return prepare[operation](guest)

    def cluster(self) -> None:
        """What workers have begun and not told, and what nobody has carried out; a launch that has no host yet."""
        hosts, died = list(self.cloud.hosts), DEATHS[self.kind]
        # While all hosts are there.
        asks = [self._prepared(name, None) for name in GUESTS if name not in dict(died)]
        for operation, step in died:
            if operation == "launch":
                for host in hosts:
                    self._armed(host, operation, step)
                self._launch(BlockDeviceMappings=self.storage.disks())
                hosts.remove(self._dead(hosts))
                continue
            host = hosts.pop(0)
            ask = self._prepared(operation, host)
            self._armed(host, operation, step)
            ask()
            assert self._dead([host]) is host
        for host in self.cloud.hosts:
            host.kill()
        self._launch(BlockDeviceMappings=self.storage.disks())
        self.ec2.start_instances(InstanceIds=[self.stopped])
        self._ask(asks)
        kinds = {*GUESTS, "launch", "start", "delete-volume", "modify-volume", "create-image"}
        until(lambda: {a.split()[0] for a in self._sent()} == kinds, "everything is sent", 30)
        self.cloud.role("conductor").kill()
        self.cloud.role("scheduler").kill()
        self._launch()
        # A rule that no host has heard of.
        allow(self.account, default_group(self.ec2), "tcp", (22, 22))
        self.look()
        self.cloud.kill()

    def _sent(self) -> list[str]:
        """What is under way; nothing while something has no host yet."""
        found = active(self.cloud, self.kind)
        return [] if any(each.endswith("place") for each in found) else found

    def _ask(self, asks: list[Callable]) -> None:
        for ask in [*asks, self.storage.delete, self.storage.grow, self.storage.picture]:
            ask()

    def lone(self) -> None:
        """The one process dies of the end of an instance that a worker has begun. All else waits for a libvirt that is
        not there."""
        (host,) = self.cloud.hosts
        asks = [self._prepared(name, None) for name in GUESTS if name != "terminate"]
        end = self._prepared("terminate", None)
        self.expected[self.stopped] = "stopped"
        self._armed(host, "terminate", "begun")
        with host.machine.without_libvirtd():
            self._launch(BlockDeviceMappings=self.storage.disks())
            self._ask(asks)
            until(self._sent, "everything is sent", 30)
            self.look()
            self._launch()
            last_words(end)
            self._dead([host])

    def look(self) -> None:
        self.guests = [id for id in self.guests if id not in (self.deaf, self.ended)] + [self.last]
        self.seen = {i["InstanceId"]: i for i in instances(self.ec2)}
        self.storage.look([*self.guests, self.storage.quiet])

    def manifest(self) -> dict:
        """What the upgraded cloud is compared with."""
        ids = [name_of(number) for number in rows(self.cloud, self.kind, "select id from instances where terminated_at is null")]
        expected = dict.fromkeys(ids, "running") | {self.deaf: "stopped", self.ended: "terminated"} | self.expected
        where = {name_of(id): host for id, host in (
            row.replace("|", "\t").split("\t") for row in rows(self.cloud, self.kind, "select id, host from instances where host is not null"))}  # fmt: skip
        there = {
            id: {"host": where[id], "private": seen["PrivateIpAddress"], "public": seen["PublicIpAddress"]}
            for id, seen in self.seen.items() if id in (*self.guests, self.storage.quiet)
        }  # fmt: skip
        return {
            "guests": {id: there[id] for id in self.guests}, "quiet": {self.storage.quiet: there[self.storage.quiet]},
            "storage": self.storage.manifest(), "deaf": [self.deaf], "ended": [self.ended], "expected": expected,
            "under_way": active(self.cloud, self.kind),
            "account": self.account.id, "key": [self.account.key.id, self.account.key.secret],
        }  # fmt: skip


def make(program: Path, kind: str, path: Path) -> None:
    with Machines(1 if kind == "sqlite" else 3, upgrade.NETWORK) as machines:
        for machine in machines:
            upgrade.record(machine)
        cloud = upgrade.site(machines, kind, program, GRACE)
        try:
            maker = Maker(cloud, kind, program)
            maker.lone() if kind == "sqlite" else maker.cluster()
            manifest = maker.manifest()
            print(kind, manifest["under_way"], flush=True)
            upgrade.take(cloud, kind, path, manifest)
        finally:
            cloud.discard()
    print(f"{path}: {path.stat().st_size // 1024} KiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--program", type=Path, required=True, help="the program whose fixture it is")
    parser.add_argument("--name", required=True, help="the fixture's name, such as the program's commit")
    parser.add_argument("--database", action="append", choices=upgrade.KINDS, help="all three, unless some are named")
    given = parser.parse_args()
    for kind in given.database or upgrade.KINDS:
        make(given.program.resolve(), kind, upgrade.FIXTURES / given.name / f"{kind}.tar.xz")


if __name__ == "__main__":
    main()

"""Makes the fixture of an upgrade out of any program: ten guests that run, on three hosts (with SQLite on one), and what
was under way when every process was killed. docs/upgrades.md says when one is due.

    CUMULET_TINY_IMAGE=… venv/bin/python tests/upgrade/make_fixture.py --program OLD --name NAME [--database KIND]...

It needs what the tests with real guests need (root, `scripts/setup-host --test`), and writes
tests/upgrade/fixtures/NAME/KIND.tar.xz."""

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import upgrade  # noqa: E402
from harness.crash import last_words  # noqa: E402
from harness.ec2 import default_group, instances, run, running, wait  # noqa: E402
from harness.guest import allow  # noqa: E402
from harness.machines import Machines  # noqa: E402
from harness.site import Host, Site  # noqa: E402
from harness.wait import until  # noqa: E402

SMALL = {"InstanceType": "t2.nano"}
# A stop that no guest complies with goes on for so long.
GRACE = 600


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
        self.guests = running(self.account, 10, **SMALL)
        (self.stopped,) = running(self.account, 1, **SMALL)
        self.ec2.stop_instances(InstanceIds=[self.stopped], Force=True)
        wait(self.account, [self.stopped], "stopped")
        self.deaf, self.ended = running(self.account, 2, **SMALL)
        # What is to become of instances that neither go on running nor are to be stopped or ended.
        self.expected: dict[str, str] = {}

    def _launch(self) -> None:
        # The caller may die with its answer on the way: what was made is looked for at the end.
        last_words(lambda: run(self.account, 1, **SMALL))

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

    def cluster(self) -> None:
        """A launch, a stop and an end that workers have begun and not told; a start that nobody has carried out, and a
        launch that has no host yet."""
        hosts = list(self.cloud.hosts)
        for host in hosts:
            self._armed(host, "launch", "disk")
        self._launch()
        hosts.remove(self._dead(hosts))
        # Those that are to be stopped and ended have to be where workers live.
        self.deaf, self.ended = self._two(hosts)
        for id, operation, call in (
            (self.deaf, "stop", self.ec2.stop_instances), (self.ended, "terminate", self.ec2.terminate_instances),
        ):  # fmt: skip
            host = self.cloud.host_of(id)
            self._armed(host, operation, "begun")
            call(InstanceIds=[id])
            assert self._dead([host]) is host
        for host in self.cloud.hosts:
            host.kill()
        self.ec2.start_instances(InstanceIds=[self.stopped])
        self._launch()
        until(lambda: len(active(self.cloud, self.kind)) == 5 and not [a for a in active(self.cloud, self.kind) if a.endswith("place")],
              "everything is sent", 30)  # fmt: skip
        self.cloud.role("conductor").kill()
        self.cloud.role("scheduler").kill()
        self._launch()
        # A rule that no host has heard of.
        allow(self.account, default_group(self.ec2), "tcp", (22, 22))
        self.look()
        self.cloud.kill()

    def _two(self, hosts: list[Host]) -> tuple[str, str]:
        """An instance on each of two hosts; what was meant for it runs on beside the others."""
        all_there = [*self.guests, self.deaf, self.ended]
        two = [next(id for id in reversed(all_there) if self.cloud.host_of(id) is host) for host in hosts]
        self.guests = [id for id in all_there if id not in two]
        return two[0], two[1]

    def lone(self) -> None:
        """The one process dies of the end of an instance that a worker has begun, with a stop and a launch under way."""
        (host,) = self.cloud.hosts
        self._armed(host, "terminate", "begun")
        # It has not booted yet, and hears no power button.
        (self.deaf,) = running(self.account, 1, **SMALL)
        self.expected[self.stopped] = "stopped"
        self.ec2.stop_instances(InstanceIds=[self.deaf])
        self.look()
        self._launch()
        last_words(lambda: self.ec2.terminate_instances(InstanceIds=[self.ended]))
        self._dead([host])

    def look(self) -> None:
        self.seen = {i["InstanceId"]: i for i in instances(self.ec2)}

    def manifest(self) -> dict:
        """What the upgraded cloud is compared with."""
        ids = [name_of(number) for number in rows(self.cloud, self.kind, "select id from instances where terminated_at is null")]
        expected = dict.fromkeys(ids, "running") | {self.deaf: "stopped", self.ended: "terminated"} | self.expected
        where = {name_of(id): host for id, host in (
            row.replace("|", "\t").split("\t") for row in rows(self.cloud, self.kind, "select id, host from instances where host is not null"))}  # fmt: skip
        guests = {
            id: {"host": where[id], "private": self.seen[id]["PrivateIpAddress"], "public": self.seen[id]["PublicIpAddress"]}
            for id in self.guests
        }
        return {
            "guests": guests, "deaf": [self.deaf], "ended": [self.ended], "expected": expected,
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

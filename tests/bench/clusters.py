"""The same launches on each database and bus: one process with SQLite, and roles as processes on PostgreSQL or MariaDB with
RabbitMQ. Hosts are simulated."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from clouds import CONFIG, UNLIMITED, settle
from harness.cloud import Cloud
from harness.cluster import broker, database
from harness.servers import Server
from load import cpu_seconds, cpu_with_children
from report import Row, number
from rush import Rush, for_seconds, p50_p99, requests, since, so_many, times

KINDS = {"": "SQLite, one process", "postgresql": "PostgreSQL, RabbitMQ", "mariadb": "MariaDB, RabbitMQ"}
# Each client's turn is another account's.
CLIENTS = ACCOUNTS = 16
SECONDS = 5.0
# Launches one after the other, while nothing else goes on.
ALONE = 100


@dataclass(frozen=True)
class Measured:
    """Launches of one cloud."""

    rush: Rush
    states: dict[str, int]
    running_rate: float
    """Instances a second, from the first request until the last one runs."""
    cpu: float
    servers_cpu: float
    alone: list[float]
    crowded: list[float]
    alone_no_failure: bool

    @property
    def met(self) -> bool:
        """Nothing failed, and every instance that was accepted runs."""
        whole = len(self.crowded) == len(self.rush.made) > 0 and len(self.alone) == ALONE
        return whole and self.rush.no_failure and self.alone_no_failure and set(self.states) == {"running"}


@contextmanager
def durable() -> Iterator[None]:
    """Database servers that start within it lose nothing with the machine's power, as SQLite does not here."""
    before, Server.durable = Server.durable, True
    try:
        yield
    finally:
        Server.durable = before


def rows() -> list[Row]:
    """Two rows of each: how many launches it takes, and how long they are."""
    found, base = [], None
    for kind, name in KINDS.items():
        with durable(), Cloud("fake", CONFIG, variables=UNLIMITED, cluster=kind) as cloud:
            one = measured(cloud)
        base = base or one
        found += described(name, one, None if one is base else base)
    return found


def measured(cloud: Cloud) -> Measured:
    some = requests([cloud.account() for _ in range(ACCOUNTS)], 1)
    quiet = so_many(cloud.address, some, 1, ALONE)
    settle(cloud, 60, every=0.1)
    cpu, servers = cloud_cpu(cloud), servers_cpu(cloud)
    crowd = for_seconds(cloud.address, some, CLIENTS, SECONDS)
    # To read states costs the database something: not often.
    states = settle(cloud, 180, every=0.5)
    cpu, servers = cloud_cpu(cloud) - cpu, servers_cpu(cloud) - servers
    running, accepted = since(cloud), crowd.made
    last = max((running[id] for id in accepted if id in running), default=crowd.ended)
    return Measured(
        rush=crowd,
        states=states,
        running_rate=sum(id in running for id in accepted) / (last - crowd.began),
        cpu=cpu * 1e6 / max(1, len(accepted)),
        servers_cpu=servers * 1e6 / max(1, len(accepted)),
        alone=times(quiet.made, running),
        crowded=times(accepted, running),
        alone_no_failure=quiet.no_failure,
    )


def cloud_cpu(cloud: Cloud) -> float:
    """Of all its processes."""
    return sum(cpu_seconds(pid) for pid in cloud.pids)


def servers_cpu(cloud: Cloud) -> float:
    """Of the database server and of the broker."""
    if not cloud.cluster:
        return 0.0
    return sum(cpu_with_children(pid) for pid in (database(cloud.cluster).process.pid, broker().pid))


def described(name: str, one: Measured, base: Measured | None) -> list[Row]:
    servers = f" (and {number(one.servers_cpu)} µs of the servers)" if one.servers_cpu else ""
    answers = one.rush.statuses
    speeds = f"{number(one.rush.accepted_rate)} accepted/s, {number(one.running_rate)} to `running`/s"
    rates = Row(
        f"RunInstances of 1, {CLIENTS} clients, until all of {len(one.rush.made):,} run: {name}",
        f"{speeds}, {number(one.cpu)} µs CPU{servers}; {answers[200]:,} accepted, {one.rush.refused}",
        f"SQLite: {number(base.rush.accepted_rate)}/s, {number(base.running_rate)}/s" if base else "",
        f"{one.rush.accepted_rate / base.rush.accepted_rate:.2f} × accepted, "
        f"{one.running_rate / base.running_rate:.2f} × to `running`"
        if base
        else "",
        "no 5xx, all run",
        one.met,
    )
    waits = Row(
        f"From the request to `running`: {name}",
        f"one client: {p50_p99(one.alone)}; {CLIENTS} clients: {p50_p99(one.crowded)}",
        f"SQLite: {p50_p99(base.alone)}; {p50_p99(base.crowded)}" if base else "",
        f"{median(one.alone) / median(base.alone):.1f} × by p50 of one client" if base and one.alone and base.alone else "",
    )
    return [rates, waits]

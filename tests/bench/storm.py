"""A launch storm: as many instances as exactly fit on a thousand simulated hosts, asked for at once. And what it costs in
memory, by process."""

import json
import time
from dataclasses import dataclass

from clouds import CONFIG, UNLIMITED, resident, settle
from clusters import KINDS, durable
from harness.cloud import CONTROL, Cloud
from harness.wait import until
from report import Row, number
from rush import Rush, p50_p99, requests, since, so_many, times

HOSTS, EACH, BATCH, CLIENTS = 1000, 10, 100, 8
WANTED = HOSTS * EACH
# That ask in turn. Few of them make for VPCs with many instances, each of whose hosts hears of every change.
MANY, FEW = 40, 4
# Of t3.nano, in MiB: no host has room for one more than its share.
NANO = 512
ROOM = f"{CONFIG}[fake]\nhosts = {HOSTS}\nvcpus = 64\nmemory_mib = {NANO * EACH}\n[scheduler]\nram_allocation_ratio = 1.0\n"
# When it is given up.
LIMIT = 300.0


@dataclass(frozen=True)
class Storm:
    """What came of it."""

    rush: Rush
    states: dict[str, int]
    oversold: list[str]
    on_hosts: int
    """Different instances that hosts are listed with."""
    waits: list[float]
    rate: float
    before: dict[str, float]
    after: dict[str, float]

    @property
    def met(self) -> bool:
        whole = self.states == {"running": WANTED} and self.on_hosts == WANTED == len(self.rush.made)
        return whole and not self.oversold and self.rush.no_failure


def rows() -> list[Row]:
    """On SQLite with accounts of either number, and on PostgreSQL."""
    base = storm("", MANY)
    few, other = storm("", FEW), storm("postgresql", MANY)
    server = [ended("postgresql", MANY, other, base), memory("postgresql", other)]
    return [ended("", MANY, base), memory("", base), ended("", FEW, few, base), *server]


def ended(kind: str, accounts: int, one: Storm, base: Storm | None = None) -> Row:
    """How it ended, beside the first."""
    states = ", ".join(f"{number:,} {state}" for state, number in sorted(one.states.items()))
    oversold = f"{len(one.oversold)} hosts oversold" if one.oversold else "nothing oversold"
    asked = f"{WANTED // BATCH} requests in {one.rush.ended - one.rush.began:.1f} s, {one.rush.refused}"
    return Row(
        f"Launch storm, {WANTED:,} instances on {HOSTS:,} hosts where they just fit, {accounts} accounts: {KINDS[kind]}",
        f"{states}; {oversold}; {number(one.rate)} instances/s, to `running` {p50_p99(one.waits)}; {asked}",
        f"SQLite, {MANY} accounts: {number(base.rate)}/s, {p50_p99(base.waits)}" if base else "",
        f"{one.rate / base.rate:.2f} ×" if base and base.rate else "",
        f"{WANTED:,} running, nothing oversold",
        one.met,
    )


def memory(kind: str, one: Storm) -> Row:
    """Of the control plane, and beside it of what only stands for hosts."""
    if not kind:
        text = f"{number(one.after['all'])} MiB ({number(one.before['all'])} before), the simulated hosts in it"
        return Row(f"Resident memory with {WANTED:,} instances on {HOSTS:,} hosts: the one process", text, "", "")
    sizes = {role: f"{role} {number(mib)} ({number(one.before[role])} before)" for role, mib in one.after.items()}
    total, base = (sum(of[role] for role in CONTROL) for of in (one.after, one.before))
    parts = ", ".join(sizes[role] for role in CONTROL)
    rest = ", ".join(text for role, text in sizes.items() if role not in CONTROL)
    return Row(
        f"Resident memory with {WANTED:,} instances on {HOSTS:,} hosts, roles as processes: {KINDS[kind]}",
        f"control plane {number(total)} MiB ({number(base)} before): {parts}; hosts' roles: {rest}",
        "",
        "",
    )


def storm(kind: str, accounts: int) -> Storm:
    with durable(), Cloud("fake", ROOM, variables=UNLIMITED, cluster=kind) as cloud:
        until(lambda: sum(host["alive"] for host in hosts(cloud)) == HOSTS, f"{HOSTS} hosts", LIMIT, every=0.5)
        some = requests([cloud.account() for _ in range(accounts)], BATCH)
        before = resident(cloud)
        rush = so_many(cloud.address, some, CLIENTS, WANTED // BATCH)
        states = settle(cloud, LIMIT, every=0.5)
        after, listed, running = resident(cloud), hosts(cloud), since(cloud)
    last = max(running.values(), default=time.time())
    return Storm(
        rush=rush,
        states=states,
        oversold=[host["host"] for host in listed if is_oversold(host)],
        on_hosts=len({id for host in listed for id in host["instances"]}),
        waits=times(rush.made, running),
        rate=len(running) / (last - rush.began),
        before=before,
        after=after,
    )


def hosts(cloud: Cloud) -> list[dict]:
    return json.loads(cloud.run("admin", "host", "list", "--json"))


def is_oversold(host: dict) -> bool:
    """By its own counters, or by what its instances need."""
    counters = any(host[kind]["used"] > host[kind]["max"] for kind in ("memory_mib", "vcpus", "disk_gib"))
    return counters or len(host["instances"]) * NANO > host["memory_mib"]["max"]

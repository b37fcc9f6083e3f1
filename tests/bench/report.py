"""The rows and the table."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import processor
from load import Side


@dataclass(frozen=True)
class Row:
    """One line of the table, in words; `met` is None where there is no mark."""

    what: str
    ours: str
    other: str
    ratio: str
    mark: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        verdict = {None: "", True: "met", False: "**missed**"}[self.met]
        return [self.what, self.ours, self.other, self.ratio, self.mark, verdict]


HEAD = ["What", "Cumulet", "Compared with", "Ratio", "Mark", ""]


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def speed(side: Side) -> str:
    return f"{number(side.rate)}/s, {number(side.cpu)} µs CPU"


def compared(what: str, ours: Side, other: Side, least: float | None = None, percent: bool = False) -> Row:
    """Rates of two sides; the mark is how much of the other's, or how many times it, ours must be."""
    ratio = ours.rate / other.rate
    of_cpu = other.cpu / ours.cpu if ours.cpu else 0.0
    show = (lambda r: f"{r:.0%}") if percent else (lambda r: f"{number(r)} ×")
    return Row(
        what,
        speed(ours),
        f"{other.name}: {speed(other)}",
        f"{show(ratio)} (by CPU {show(of_cpu)})",
        "" if least is None else f"≥ {show(least)}",
        None if least is None else ratio >= least,
    )


def cost(what: str, ours: Side, floor: Side, most: float | None = None) -> Row:
    """What a request costs in processor time beside a server that only answers the same; the mark is how many times that."""
    times, rate = ours.cpu / floor.cpu, ours.rate / floor.rate
    mark, met = ("", None) if most is None else (f"≤ {most:g} × by CPU", times <= most)
    ratio = f"{times:.2f} × by CPU ({rate:.0%} by rate)"
    return Row(what, speed(ours), f"{floor.name}: {speed(floor)}", ratio, mark, met)


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = [HEAD, ["---"] * len(HEAD)] + [row.cells() for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def document(rows: list[Row], seconds: float) -> str:
    """What is kept in the repository."""
    return f"""# Benchmarks

The last table that was kept, made by `make bench` on {date.today().isoformat()} in {seconds / 60:.0f} minutes:

{markdown(rows)}

{machine()}

The sides of a comparison are measured in turn, five rounds each (three with moto); numbers are medians, and
ratios are of the same run. Load comes from `wrk` on the same machine, 16 connections kept alive (128 for
CreateTags, whose commits are shared; 4 to moto, which more do not help), the same signed requests to both
sides; "CPU" is what the server's process used for each request, which moves less than rates do. The floor is
a bare actix-web handler (`gateway/examples/floor.rs`) on as many workers that reads the request and answers
the same bytes without looking at it: a request's cost is judged by CPU beside it, less strictly where the processor
has no extensions for SHA, and once more with SHA-256 in software where it has them: the running server is told that
there are none (`tests/bench/processor.py`). The comparison with moto is with its own server, version 5.2.5.
Everything but real launches and the scheduler's decisions runs on simulated hosts; the database is SQLite in
WAL mode with `synchronous=FULL` where no other is named.

Launches on other databases (`--only clusters`): roles as processes, PostgreSQL or MariaDB and RabbitMQ as
Debian has them, on this machine and its disk. Both write a transaction to the disk before they confirm it, as
SQLite does here; queues are quorum queues of one broker. Each cloud has one simulated host. 100 launches come
one after the other from one client; then 16 clients ask for 5 seconds as fast as they are answered, in turn
for 16 accounts. The time to `running` is that of all accepted instances, from sending the request to the time
in the row that says so. "CPU" is that of all of the cloud's processes for an instance, "of the servers" that
of database and broker. The client is a Python program, which takes some of the machine too; a mark is missed
if any answer is a 5xx, or if an instance that was accepted does not run.

Launch storms (`--only storm`): 100 requests for 100 instances each, from 8 clients, to hosts with room for
exactly ten each. Nothing is oversold if that is so by `cumulet admin host list`, by each host's counters and
by the instances that it lists. With 4 accounts a VPC has 2,500 instances, and a change of its members goes to
all hosts that it is on. Memory is what is resident when all run. In the one process it includes the thousand
simulated hosts; of separate processes the control plane is gateway, scheduler and conductor, `compute` is the
simulated hosts, and database and broker are not counted.

Guests' disks (`--only guest-io`): one guest (`tests/guests/bench`) with a volume, and the same guest started by hand as
fast as it was found to be: a raw file past the page cache by io_uring, an I/O thread, no bridge. Both have the processor
that the cloud gives its guests here; both command lines are printed. They run in turn, and a ratio is the median of all
pairs'. The block options of both are measured once more by `qemu-img bench`, since an emulated processor can hide a slow
disk. `--only volumes` is one guest with a shell: it watches for a disk that is attached, by the API and by `virsh` with the
same element; and it writes 4 KiB with a flush every few milliseconds while snapshots are taken.

`cumulet simulate` runs everything in one thread, with its database in memory; its marks are its invariants.
"""


def by_hand(written: str) -> str:
    """Of what is kept, the part that other programs have measured: it stays."""
    at = written.find("\n## ")
    return written[at:] if at >= 0 else ""


def machine() -> str:
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    kernel = ".".join(platform.release().split(".")[:2])
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()
    return (
        f"Machine: {os.cpu_count()} × {processor.name()}, {int(memory[1]) / 2**20:.0f} GiB, Linux {kernel}, "
        f"rustc {rustc[1] if len(rustc) > 1 else '?'}."
    )

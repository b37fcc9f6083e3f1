"""The rows and the table."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import date
from pathlib import Path

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
ratios are of the same run. Load comes from `wrk` on the same machine, 16 connections kept alive (128 for CreateTags, whose commits are shared; 4 to moto, which more do not help), the same
signed requests to both sides; "CPU" is what the server's process used for each request, which moves less than
rates do. The floor is a bare actix-web handler (`gateway/examples/floor.rs`) on as many workers that reads the
request and answers the same bytes without looking at it. The comparison with moto is with its own server,
version 5.2.5. Everything but the last rows runs on the simulated driver; its database is SQLite in WAL mode
with `synchronous=FULL`, as always.
"""


def machine() -> str:
    cpus = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpus, re.M)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    kernel = ".".join(platform.release().split(".")[:2])
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()
    return (
        f"Machine: {os.cpu_count()} × {model[1] if model else platform.machine()}, "
        f"{int(memory[1]) / 2**20:.0f} GiB, Linux {kernel}, rustc {rustc[1] if len(rustc) > 1 else '?'}."
    )

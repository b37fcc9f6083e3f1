"""This program beside one that was built from another commit, in one run: what a change has made slower."""

from contextlib import ExitStack
from pathlib import Path
from statistics import median

from api import CROWD, Seeded, tags
from clouds import CONFIG, UNLIMITED
from harness.cloud import BIN, Cloud
from imds import reading
from launches import sustained
from load import Side, call, interleave
from report import Row, number
from scheduler import measured
from servers import EXAMPLES, metadata

# Of the other's speed, by CPU, that must be left.
LEAST = 0.95


def rows(other: Path, rounds: int) -> list[Row]:
    """`other` is the folder `release` of another build: its `cumulet`, and `decisions` and `serve` in its `examples`."""
    return [*reads(other, rounds), *launches(other, rounds), *decisions(other, rounds), *items(other, rounds)]


def reads(other: Path, rounds: int) -> list[Row]:
    """Reads of the API, of 1,000 instances, and the write that clients make most."""
    with ExitStack() as stack:
        clouds = [stack.enter_context(Cloud("fake", CONFIG, variables=UNLIMITED, binary=binary)) for binary in (other / "cumulet", BIN)]
        theirs, ours = [Seeded(cloud, 1000) for cloud in clouds]
        pairs = {
            "DescribeInstances of one id": [seeded.one() for seeded in (theirs, ours)],
            "DescribeInstances of 1,000": [seeded.side([call("DescribeInstances")], connections=4) for seeded in (theirs, ours)],
            "DescribeRegions": [seeded.side([call("DescribeRegions")]) for seeded in (theirs, ours)],
            "CreateTags": [seeded.side(tags(seeded.some), connections=CROWD) for seeded in (theirs, ours)],
        }
        for sides in pairs.values():
            interleave(sides, rounds)
        return [of_sides(what, *sides) for what, sides in pairs.items()]


def launches(other: Path, rounds: int) -> list[Row]:
    """RunInstances until all run."""
    samples: dict[Path, list[tuple[float, float]]] = {other / "cumulet": [], BIN: []}
    for _ in range(rounds):
        for binary, taken in samples.items():
            with Cloud("fake", CONFIG, variables=UNLIMITED, binary=binary) as cloud:
                taken.append(sustained(cloud, 1, 4.0)[:2])
    theirs, ours = [[median(sample[at] for sample in taken) for at in (0, 1)] for taken in samples.values()]
    show = lambda rate, cpu: f"{number(rate)} instances/s, {number(cpu)} µs CPU"  # noqa: E731
    return [row("RunInstances of 1, until all run", show(*ours), show(*theirs), ours[0] / theirs[0], theirs[1] / ours[1])]


def decisions(other: Path, rounds: int) -> list[Row]:
    """The scheduler, among 1,000 hosts."""
    rates: dict[Path, list[float]] = {other / "examples": [], EXAMPLES: []}
    for _ in range(rounds):
        for folder, found in rates.items():
            found.append(measured([folder / "decisions", 1000, 1])["rate"])
    theirs, ours = [median(found) for found in rates.values()]
    show = lambda rate: f"{number(rate)}/s"  # noqa: E731
    return [row("Scheduler decisions, 1,000 hosts", show(ours), show(theirs), ours / theirs, ours / theirs)]


def items(other: Path, rounds: int) -> list[Row]:
    """The metadata service, with a session token."""
    with metadata(other / "examples") as before, metadata() as now:
        sides = [Side(service.name, service.pid, service.address, reading(service.address)) for service in (before, now)]
        interleave(sides, rounds)
    return [of_sides("IMDS read with a token", *sides)]


def of_sides(what: str, theirs: Side, ours: Side) -> Row:
    show = lambda side: f"{number(side.rate)}/s, {number(side.cpu)} µs CPU"  # noqa: E731
    return row(what, show(ours), show(theirs), ours.rate / theirs.rate, theirs.cpu / ours.cpu)


def row(what: str, ours: str, theirs: str, by_rate: float, by_cpu: float) -> Row:
    ratio = f"{by_cpu:.2f} × by CPU, {by_rate:.2f} × by rate"
    return Row(what, ours, f"before: {theirs}", ratio, f"≥ {LEAST} ×", by_cpu >= LEAST)

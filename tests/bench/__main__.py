"""The benchmarks: the release binary against a bare server, against moto, against nova's scheduler, against bare libvirt,
and against itself on other databases.

    python tests/bench [--rounds N] [--only NAME[,NAME]] [--versus DIR] [--keep FILE]

Run it through `make bench`, which builds everything first. Takes about ten minutes; listens on 127.0.0.1 only.
"""

import argparse
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import api  # noqa: E402
import clusters  # noqa: E402
import guest_io  # noqa: E402
import guest_volumes  # noqa: E402
import guests  # noqa: E402
import imds  # noqa: E402
import launches  # noqa: E402
import noisy  # noqa: E402
import scheduler  # noqa: E402
import simulated  # noqa: E402
import storm  # noqa: E402
import versus  # noqa: E402
import volume_api  # noqa: E402
from clouds import CONFIG, UNLIMITED, Moto  # noqa: E402
from harness.cloud import Cloud  # noqa: E402
from harness.folder import fresh  # noqa: E402
from report import Row, by_hand, document, machine, markdown, number  # noqa: E402
from servers import moto  # noqa: E402

PARTS = [
    "api", "moto", "launches", "clusters", "storm", "noisy", "simulate", "imds", "guests", "guest-io", "volumes",
    "volume-api", "scheduler",
]  # fmt: skip
# What sends no requests by `wrk`.
WITHOUT_LOAD = {"clusters", "storm", "noisy", "simulate", "guests", "guest-io", "volumes", "scheduler"}
SIZES = [100, 1000, 10_000]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    arguments.add_argument("--only", default=",".join(PARTS), help=f"which of {', '.join(PARTS)}")
    arguments.add_argument("--keep", type=Path, help="the file for the table of a whole run")
    arguments.add_argument("--versus", type=Path, help="only this: beside the folder `release` of another build")
    given = arguments.parse_args()
    wanted = given.only.split(",")
    if not set(wanted) <= set(PARTS):
        arguments.error(f"--only takes {', '.join(PARTS)}")
    if (given.versus or not set(wanted) <= WITHOUT_LOAD) and not shutil.which("wrk"):
        sys.exit("wrk is not installed; scripts/bench does that")
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say(machine())
    start, folder = time.monotonic(), fresh("bench-")
    try:
        rows = versus.rows(given.versus, given.rounds) if given.versus else run(wanted, folder, given.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(markdown(rows))
    if given.keep and not given.versus and set(wanted) == set(PARTS):
        given.keep.parent.mkdir(exist_ok=True)
        written = given.keep.read_text() if given.keep.exists() else ""
        given.keep.write_text(document(rows, time.monotonic() - start) + by_hand(written))
    missed = [row.what for row in rows if row.met is False]
    say(f"{len(missed)} of {sum(row.met is not None for row in rows)} marks missed, {time.monotonic() - start:.0f} s")
    return 1 if missed else 0


def run(wanted: list[str], folder: Path, rounds: int) -> list[Row]:
    rows: list[Row] = []

    def add(found: list[Row]) -> None:
        for row in found:
            say(" | ".join(row.cells()))
        rows.extend(found)

    few = min(rounds, 3)
    if {"api", "moto"} & set(wanted):
        with ExitStack() as stack:
            say("starting clouds and filling them")
            seeded = [api.Seeded(stack.enter_context(Cloud("fake", CONFIG, variables=UNLIMITED)), size) for size in SIZES]
            add([memory(seeded[-1].cloud)])
            if "api" in wanted:
                add(api.reads(seeded, folder, rounds))
            if "moto" in wanted:
                with moto() as server:
                    add(api.with_moto(Moto(server), seeded[-1], seeded[1], few))
            add([memory(seeded[-1].cloud, " after the requests above")])
            if "api" in wanted:
                add(api.reads_in_software(seeded, folder, rounds))
    if "scheduler" in wanted:
        say("making decisions")
        add(scheduler.rows(2.0))
    if "launches" in wanted:
        with moto() as server:
            add(launches.launches(Moto(server), few))
    if "clusters" in wanted:
        say("launching on each database")
        add(clusters.rows())
    if "storm" in wanted:
        say("launching 10,000 instances at once")
        add(storm.rows())
    if "noisy" in wanted:
        say("being a noisy neighbour")
        add(noisy.rows())
    if "simulate" in wanted:
        add(simulated.rows())
    if "imds" in wanted:
        add(imds.reads(folder, rounds))
    if "guests" in wanted:
        add(guests.launch_time(folder, rounds))
    if "volume-api" in wanted:
        say("making and describing volumes")
        add(volume_api.rows(rounds))
    if "guest-io" in wanted:
        say("reading and writing a guest's disk, and bare QEMU's")
        add(guest_io.rows(folder, rounds))
    if "volumes" in wanted:
        say("attaching volumes to a guest, and taking snapshots of them")
        add(guest_volumes.rows(folder))
    return rows


def memory(cloud: Cloud, when: str = "") -> Row:
    # What was needed for a moment goes back to the system within a second.
    most = cloud.resident_mib()
    time.sleep(2)
    mib = cloud.resident_mib()
    text = f"{number(mib)} MiB, {number(most)} two seconds before"
    return Row(f"Resident memory with 10,000 instances{when}", text, "", "", "< 100 MB", mib * 1.048576 < 100)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

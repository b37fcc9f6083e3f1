"""`cumulet simulate`: the control plane under a virtual clock, in one thread, as fast as it goes."""

import json
import subprocess

from harness.cloud import BIN
from report import Row, number

# Hosts, instances, faults. What goes wrong makes virtual minutes of what else takes seconds.
RUNS = [(1000, 10_000, "none"), (100, 1000, "default")]
SEED = 1


def rows() -> list[Row]:
    return [row(*run) for run in RUNS]


def row(hosts: int, instances: int, faults: str) -> Row:
    one = run(hosts, instances, faults)
    done, wall = one["counts"], one["wall_seconds"]
    broken = ", ".join(f"{violation['invariant']} violated" for violation in one["violations"])
    return Row(
        f"`cumulet simulate --hosts {hosts} --instances {instances} --seed {SEED} --faults {faults}`",
        f"{number(one['starts_per_wall_second'])} starts/s, {number(done['transactions'] / wall)} transactions/s; "
        f"{number(one['virtual_seconds'])} s of virtual time in {number(wall)} s; {number(one['peak_memory_kib'] / 1024)} MiB; "
        f"{broken or 'all invariants hold'}",
        "",
        "",
        "all hold",
        one["holds"],
    )


def run(hosts: int, instances: int, faults: str) -> dict:
    """The outcome; exit status and verdict have to agree."""
    options = {"--hosts": hosts, "--instances": instances, "--seed": SEED, "--faults": faults}
    words = [str(word) for pair in options.items() for word in pair]
    done = subprocess.run([BIN, "simulate", *words, "--json"], capture_output=True, text=True, timeout=600)
    one = json.loads(done.stdout)
    assert done.returncode == (0 if one["holds"] else 1), done.stderr
    return one

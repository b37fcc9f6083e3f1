"""Decisions of the scheduler beside those of nova 34's FilterScheduler code, in one run."""

import json
import os
import subprocess
from pathlib import Path

from report import Row, number
from servers import EXAMPLES

SIZES = [100, 1000, 5000, 10_000]
# Nova takes seconds for one decision beyond.
NOVA_SIZES = [100, 1000, 5000]
HERE = Path(__file__).parent


def rows(seconds: float) -> list[Row]:
    """The marks: 500 times nova's at 1,000 hosts, and less than 2 ms for 99 of 100 decisions at 10,000."""
    python = Path(os.environ["CUMULET_NOVA_VENV"]) / "bin" / "python"
    nova = {size: measured([python, "-W", "ignore", HERE / "nova_decisions.py", size, 5 * seconds]) for size in NOVA_SIZES}
    ours = {size: measured([EXAMPLES / "decisions", size, int(seconds)]) for size in SIZES}
    found = []
    for size, one in ours.items():
        what = f"Scheduler decisions, {size:,} hosts"
        other = nova.get(size)
        ratio = one["rate"] / other["rate"] if other else None
        marked = size == 1000
        found.append(
            Row(
                what,
                f"{number(one['rate'])}/s, p50 {number(one['p50_us'])} µs",
                f"nova 34: {number(other['rate'])}/s" if other else "",
                f"{number(ratio)} ×" if ratio else "",
                "≥ 500 ×" if marked else "",
                ratio >= 500 if marked else None,
            )
        )
    most = ours[SIZES[-1]]["p99_us"] / 1000
    found.append(
        Row(f"One decision, p99, {SIZES[-1]:,} hosts", f"{number(most)} ms", "", "", "< 2 ms", most < 2.0),
    )
    return found


def measured(command: list) -> dict:
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])

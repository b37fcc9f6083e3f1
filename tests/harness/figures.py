"""What faults cost: trials, failures and seconds to recovery, one JSON line each in the file that CUMULET_FAULT_FIGURES
names. As a program: `figures.py FILE` prints them as a table in Markdown."""

import json
import os
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path


# How often the short ones are tried, in multiples of what a usual run does.
TRIALS = int(os.environ.get("CUMULET_FAULT_TRIALS", "1"))


def note(fault: str, seconds: float, ok: bool = True) -> None:
    """One trial of a fault (`F18`): how long it took until all was as it should be, or until that was given up."""
    if path := os.environ.get("CUMULET_FAULT_FIGURES"):
        line = json.dumps({"fault": fault, "seconds": round(seconds, 3), "ok": ok}) + "\n"
        # One write: other processes' tests write there too.
        with open(path, "ab", buffering=0) as file:
            file.write(line.encode())


class Trial:
    """One trial under way. Its recovery is the time from `back`, else from the block's beginning, to `recovered`, else
    to the block's end."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.ended = 0.0

    def back(self) -> None:
        """What failed is there again."""
        self.began = time.monotonic()

    def recovered(self) -> None:
        """All is as it should be."""
        self.ended = time.monotonic()

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.began


@contextmanager
def trial(fault: str):
    """The block is a trial of a fault: the recovery's time is noted, or that it failed."""
    trial = Trial()
    try:
        yield trial
    except KeyboardInterrupt:  # no trial
        raise
    except BaseException:
        note(fault, trial.seconds, ok=False)
        raise
    note(fault, trial.seconds)


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all is not above."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]


def bound(trials: int, failures: int) -> float:
    """The failure rate that is exceeded with a probability of at most 5 %: 3/n when none has failed, else the exact
    (Clopper-Pearson) bound, by bisection."""
    if failures == 0:
        return min(1.0, 3 / trials)
    if failures == trials:
        return 1.0

    def at_most(rate: float) -> float:
        term, total = (1 - rate) ** trials, 0.0
        for k in range(failures + 1):
            total += term
            term *= (trials - k) / (k + 1) * rate / (1 - rate)
        return total

    low, high = failures / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(middle) > 0.05 else (low, middle)
    return high


def row(fault: str, trials: list[dict]) -> list[str]:
    """A fault's figures, as words."""
    good = [one["seconds"] for one in trials if one["ok"]]
    bad = len(trials) - len(good)
    times = [f"{quantile(good, share):.2f}" if good else "-" for share in (0.5, 0.99)]
    return [fault, str(len(trials)), str(bad), f"{bound(len(trials), bad):.1%}", *times]


def table(lines: list[str]) -> str:
    """The figures of each fault, one row each, in Markdown that is also read well as it is."""
    faults: dict[str, list[dict]] = defaultdict(list)
    for line in lines:
        one = json.loads(line)
        faults[one["fault"]].append(one)
    head = ["fault", "trials", "failures", "95 % bound", "recovery p50, s", "p99, s"]
    rows = [head, *(row(fault, trials) for fault, trials in sorted(faults.items()))]
    widths = [max(len(words[column]) for words in rows) for column in range(len(head))]

    def line(words: list[str]) -> str:
        first, *rest = zip(words, widths)
        return "| " + " | ".join([first[0].ljust(first[1]), *(word.rjust(width) for word, width in rest)]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text().splitlines()))

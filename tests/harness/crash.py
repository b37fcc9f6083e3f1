"""Dying at a named step and coming back."""

import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from . import figures
from .cloud import BIN, Account, Cloud
from .ec2 import instance, instances, running
from .wait import until

# Steps of which a simulated host has none. (A root that outlives its instance is "flattened" and "moved".)
REAL_STEPS = ("image", "disk", "flattened", "moved")

# Steps of the worker at which every operation that has them kills a real process, in every run.
ALWAYS = (*REAL_STEPS, "tap", "tombstone")

# The operations all of whose points kill a real process in every run; those of the others do in the simulator, and
# in a test of the matrix.
SAMPLE = ("launch", "terminate")

# Nothing has been written when a request dies here; from then on it is done without being asked again.
BEFORE = ("asked", "written")


def points() -> list[str]:
    """Every point that the program has, in order: `launch.1.asked` and so on."""
    if not BIN.exists():
        return []
    done = subprocess.run([BIN, "crash-points"], capture_output=True, text=True, check=True)
    return done.stdout.split()


def up_points() -> list[str]:
    """The points of a start: `up.m0001_accounts` and so on for each migration, then `up.migrated` and the rest."""
    done = subprocess.run([BIN, "crash-points", "--up"], capture_output=True, text=True, check=True)
    return done.stdout.split()


def is_migration(point: str) -> bool:
    """Whether a start passes this point only where it makes that migration."""
    return step_of(point)[1:5].isdigit()


def step_of(point: str) -> str:
    return point.rsplit(".", 1)[1]


def points_of(operation: str, real: bool = False) -> list[str]:
    """An operation's points: those of simulated hosts, or those that only real ones have."""
    theirs = [point for point in points() if point.startswith(f"{operation}.")]
    return [point for point in theirs if (step_of(point) in REAL_STEPS) == real]


def in_sample(point: str) -> bool:
    """Whether every run kills a real process here."""
    return point.startswith(SAMPLE) or step_of(point) in ALWAYS


def each(operation: str, steps: tuple[str, ...] = ()):
    """For a test of every point of an operation, or of some, as often as the environment asks for."""
    chosen = [point for point in points_of(operation) if not steps or step_of(point) in steps]
    ids = [f"{point}-{trial}" if trial else point for trial in range(figures.TRIALS) for point in chosen]
    marked = [pytest.param(point, marks=[] if in_sample(point) else [pytest.mark.matrix]) for point in chosen]
    return pytest.mark.parametrize("point", marked * figures.TRIALS, ids=ids)


def last_words(call: Callable) -> object:
    """The answer to a request, if the process lives to answer it."""
    try:
        return call()
    except (BotoCoreError, ClientError):
        return None


def dies(cloud: Cloud, point: str, call: Callable, times: int = 1) -> object:
    """Restarts the cloud so that it dies at the point, does what leads there, and starts it again; more than once where
    it is to die of it again. What was answered, if anything was."""
    cloud.stop()
    cloud.start(CUMULET_CRASH_AT=point)
    answer = last_words(call)
    for death in range(times):
        if death:
            cloud.launch(CUMULET_CRASH_AT=point)
        dead(cloud)
    cloud.start()
    return answer


def dead(cloud: Cloud) -> None:
    """It has died of what it was to die of."""
    assert cloud.wait_death(30) in (-signal.SIGKILL, -signal.SIGABRT), cloud.tail()


def deaths(cloud: Cloud, order: list[str], call: Callable[[str], object]) -> Iterator[str]:
    """The cloud dies at one point after the other, of what `call` does for it, and after each death the point is yielded,
    for whoever looks at what has come of it. One start for each: what is back dies at the next point, which nothing may
    come to that is gone on with or looked at."""
    cloud.stop()
    cloud.start(CUMULET_CRASH_AT=order[0])
    for at, point in enumerate(order):
        last_words(lambda: call(point))
        dead(cloud)
        cloud.start(**{"CUMULET_CRASH_AT": following for following in order[at + 1 : at + 2]})
        yield point


def settled(account: Account, final: set[str]) -> list[dict]:
    """Every instance has arrived, within the minute, and what ended says why."""

    def all_there():
        seen = instances(account.ec2)
        assert {i["State"]["Name"] for i in seen} <= final, [i["State"]["Name"] for i in seen]
        return seen

    seen = until(all_there, f"every instance is {' or '.join(sorted(final))}", 60)
    assert all(i["StateReason"]["Code"] for i in seen if i["State"]["Name"] == "terminated")
    return seen


def boots(account: Account, id: str) -> int:
    """How often a simulated guest has been switched on or reset since it was made."""
    output = account.ec2.get_console_output(InstanceId=id).get("Output", "")
    return output.count("simulated guest")


class Witness:
    """A simulated guest that ran before and must not notice anything."""

    def __init__(self, account: Account) -> None:
        self.account = account
        (self.id,) = running(account)
        self.before = self._look()

    def _look(self) -> tuple[dict, int]:
        return instance(self.account.ec2, self.id), boots(self.account, self.id)

    def untouched(self) -> None:
        assert self.before[1] == 1
        assert self._look() == self.before, "what ran was not touched"

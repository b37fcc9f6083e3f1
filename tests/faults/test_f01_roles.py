"""F01, F02, F28 with roles as processes: the one process that comes to a point of an operation dies there while all
others live; it comes back, and all ends well within a minute.

Of the matrix of points and databases every run has a sample, with each role in it; the rest is for
scripts/test-faults, and in the simulator (`cumulet simulate --kill-each`) for every run."""

import signal
from collections.abc import Callable
from contextlib import contextmanager
from uuid import uuid4

import pytest

from harness import figures
from harness.cloud import Account, Cloud
from harness.crash import BEFORE, Witness, boots, last_words, points_of, settled, step_of
from harness.ec2 import filters, instances, run, running, states, wait
from harness.process import Process
from harness.wait import until

# Who comes to a step; a test of it fails where that one does not. What no line has is the host's.
GATEWAY, SCHEDULER, CONDUCTOR, COMPUTE = "gateway", "scheduler", "conductor", "compute"
ROLES = {
    **dict.fromkeys(("asked", "written", "committed"), GATEWAY),
    **dict.fromkeys(("leased", "waiting", "sent", "heard", "freed", "released", "closed", "ended"), CONDUCTOR),
}
# Where a host has to be found, whoever finds it sends the command.
PLACED = {**ROLES, **dict.fromkeys(("leased", "claimed", "waiting", "sent"), SCHEDULER)}


# What every run kills on each database: at least one point of each role.
SAMPLE = ("written", "committed", "claimed", "sent", "begun", "done", "heard", "closed")


def role_of(point: str) -> str:
    return (PLACED if point.startswith(("launch", "start")) else ROLES).get(step_of(point), COMPUTE)


def each(operation: str, skip: tuple[str, ...] = ()):
    """For a test of every point of an operation with the role that comes to it."""
    chosen = [(point, role_of(point)) for point in points_of(operation) if step_of(point) not in skip]
    marked = [pytest.param(*one, marks=[] if step_of(one[0]) in SAMPLE else [pytest.mark.matrix]) for one in chosen]
    return pytest.mark.parametrize("point, role", marked * figures.TRIALS)


@pytest.fixture(scope="module")
def shared(kind: str):
    """A cloud, with a witness of all deaths."""
    with Cloud("fake", cluster=kind) as cloud:
        yield cloud, Witness(cloud.first_account())


@pytest.fixture
def account(shared):
    """Its account; at a test's end all but the witness is ended, and nothing is left of it."""
    cloud, witness = shared
    account = witness.account
    cloud.start()
    yield account
    witness.untouched()
    cloud.wait_clean(60)
    end(account, [id for id in living(account) if id != witness.id])
    cloud.wait_clean(60)
    subnet = account.ec2.describe_subnets()["Subnets"][0]
    assert subnet["AvailableIpAddressCount"] == 4091 - 1, "every address but the witness's is free again"


def living(account: Account) -> list[str]:
    return [i["InstanceId"] for i in instances(account.ec2) if i["State"]["Name"] != "terminated"]


def made_with(account: Account, token: str) -> list[str]:
    return [i["InstanceId"] for i in instances(account.ec2, Filters=filters(client_token=[token]))]


def end(account: Account, ids: list[str]) -> None:
    if ids:
        account.ec2.terminate_instances(InstanceIds=ids)
        wait(account, ids, "terminated")


class Mortal:
    """The process with a role, which is to die at a point."""

    def __init__(self, cloud: Cloud, role: str, point: str) -> None:
        self.cloud, self.process = cloud, cloud.role(role)
        self.others = {p.name: p.pid for p in cloud.processes if p is not self.process}
        self.process.stop()
        self._start(CUMULET_CRASH_AT=point)

    def _start(self, **variables: str) -> Process:
        self.process.launch(self.cloud.environment(), variables)
        self.process.wait_ready(60)
        return self.process

    def dies(self) -> None:
        """Waits for its death."""
        process = self.process
        until(lambda: process.dead, f"the death of {process.name}", 30, every=0.01)
        assert process.wait_death(1) in (-signal.SIGKILL, -signal.SIGABRT), process.tail()

    def back(self) -> None:
        """It comes back; the others have lived all the time."""
        self._start()
        assert self.others == {p.name: p.pid for p in self.cloud.processes if p is not self.process}
        assert not any(p.dead for p in self.cloud.processes)


@contextmanager
def death(fault: str, account: Account, point: str, role: str, ask: Callable):
    """A trial: what is asked kills the process with the role at the point, and it is back. What was answered, if
    anything was, with the trial."""
    with figures.trial(f"{fault}, {role} dies") as trial:
        mortal = Mortal(account.cloud, role, point)
        answered = last_words(ask)
        mortal.dies()
        mortal.back()
        trial.back()
        yield trial, answered


def soon(check, what: str) -> None:
    until(check, what, 60, every=0.03)


@each("launch")
def test_f01_launch(account: Account, point: str, role: str):
    token = uuid4().hex
    made = lambda: made_with(account, token)  # noqa: E731
    ask = lambda: run(account, 3, ClientToken=token)  # noqa: E731
    with death("F01 launch", account, point, role, ask) as (trial, answered):
        soon(lambda: states(account.ec2, living(account)) == {"running"}, "all run")
        trial.recovered()
        assert len(made()) == (0 if step_of(point) in BEFORE else 3), "all of it, or nothing"
        assert answered is None or sorted(answered) == sorted(made()), "what was answered is there"
        again = ask()
        wait(account, again, "running")
        assert sorted(again) == sorted(made()), "done once"
        assert [boots(account, id) for id in again] == [1, 1, 1]


@pytest.mark.matrix
@each("start")
def test_f02_start(account: Account, point: str, role: str):
    ids = running(account, 2)
    account.ec2.stop_instances(InstanceIds=ids)
    wait(account, ids, "stopped")
    ask = lambda: account.ec2.start_instances(InstanceIds=ids)  # noqa: E731
    with death("F02 start", account, point, role, ask) as (trial, _):
        wanted = "stopped" if step_of(point) in BEFORE else "running"
        soon(lambda: states(account.ec2, ids) == {wanted}, f"they are {wanted}")
        trial.recovered()
        ask()
        wait(account, ids, "running")
        assert [boots(account, id) for id in ids] == [2, 2], "a guest that runs is not started again"


@pytest.mark.matrix
@each("stop")
def test_f02_stop(account: Account, point: str, role: str):
    ids = running(account, 2)
    ask = lambda: account.ec2.stop_instances(InstanceIds=ids)  # noqa: E731
    with death("F02 stop", account, point, role, ask) as (trial, _):
        wanted = "running" if step_of(point) in BEFORE else "stopped"
        soon(lambda: states(account.ec2, ids) == {wanted}, f"they are {wanted}")
        trial.recovered()
        ask()
        wait(account, ids, "stopped")


@pytest.mark.matrix
@each("reboot")
def test_f02_reboot(account: Account, point: str, role: str):
    ids = running(account, 2)
    ask = lambda: account.ec2.reboot_instances(InstanceIds=ids)  # noqa: E731
    with death("F02 reboot", account, point, role, ask) as (trial, _):
        least = 1 if step_of(point) in BEFORE else 2
        soon(lambda: min(boots(account, id) for id in ids) >= least, "both have started over")
        trial.recovered()
        assert states(account.ec2, ids) == {"running"}, "a reboot ends nothing"


@pytest.mark.matrix
@each("terminate")
def test_f02_terminate(account: Account, point: str, role: str):
    stays, *ids = running(account, 3)
    ask = lambda: account.ec2.terminate_instances(InstanceIds=ids)  # noqa: E731
    with death("F02 terminate", account, point, role, ask) as (trial, _):
        wanted = "running" if step_of(point) in BEFORE else "terminated"
        soon(lambda: states(account.ec2, ids) == {wanted}, f"they are {wanted}")
        trial.recovered()
        end(account, ids)
        assert states(account.ec2, [stays]) == {"running"} and boots(account, stays) == 1


@pytest.mark.matrix
@each("launch", skip=BEFORE)
def test_f28_terminated_while_the_one_that_builds_is_dead(account: Account, point: str, role: str):
    """The terminate is taken while the process is away; where that is the gateway, once it is back."""
    token = uuid4().hex
    with figures.trial(f"F28 terminate while {role} is dead") as trial:
        mortal = Mortal(account.cloud, role, point)
        last_words(lambda: run(account, 3, ClientToken=token))
        mortal.dies()
        if role == GATEWAY:
            mortal.back()
        ids = made_with(account, token)
        assert len(ids) == 3
        account.ec2.terminate_instances(InstanceIds=ids)
        if role != GATEWAY:
            mortal.back()
        trial.back()
        soon(lambda: states(account.ec2, ids) == {"terminated"}, "their end")
        trial.recovered()
        settled(account, {"running", "terminated"})


def test_the_sample_has_every_role():
    assert {role_of(point) for point in points_of("launch") if step_of(point) in SAMPLE} == set(PLACED.values()) | {COMPUTE}

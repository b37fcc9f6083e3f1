"""F01, F02, F28: the process dies at each named step of launch, start, stop, reboot and terminate, in the API, the
conductor and the worker, and comes back: everything ends well or with a reason within a minute, what was asked again
with its token is done once, nothing is left over, and a guest that ran all the time was not touched. Simulated hosts;
the steps of disks are in test_kill_real.py. The points come from the program itself, so a new one is tested, or fails
here.

A sample of the points dies here in every run. All of them do in `cumulet simulate --kill-each`, once and again and
again; on processes that matrix is for scripts/test-faults."""

from uuid import uuid4

import pytest

from harness import figures, volumes
from harness.cloud import Account, Cloud
from harness.crash import (
    BEFORE, REAL_STEPS, Witness, boots, dies, each, is_migration, points, points_of, settled, step_of,
    up_points,
)  # fmt: skip
from harness.ec2 import filters, instances, run, running, states, wait
from harness.wait import until

ADDRESSES = 4091  # of the default subnet

# What a launch is at while its answer is on its way to whoever asked, and after.
DURING = (
    "committed", "leased", "claimed", "waiting", "sent", "received", "begun", "metadata", "tap", "defined", "firewall",
    "started",
)  # fmt: skip


@pytest.fixture(scope="module")
def shared():
    """A cloud, with a witness of all its deaths."""
    with Cloud() as cloud:
        yield cloud, Witness(cloud.first_account())


def end_others(witness: Witness) -> list[str]:
    """Asks for the end of all that has not ended but the witness; their ids."""
    there = [i["InstanceId"] for i in instances(witness.account.ec2) if i["State"]["Name"] != "terminated"]
    ids = [id for id in there if id != witness.id]
    if ids:
        witness.account.ec2.terminate_instances(InstanceIds=ids)
    return ids


@pytest.fixture
def account(shared):
    """Its account; at a test's end all but the witness is ended, and nothing is left of it."""
    cloud, witness = shared
    account = witness.account
    if cloud.process is None:  # left so by a test that failed
        cloud.start()
    yield account
    witness.untouched()
    cloud.wait_clean()
    if ids := end_others(witness):
        wait(account, ids, "terminated")
    cloud.wait_clean()
    subnet = account.ec2.describe_subnets()["Subnets"][0]
    assert subnet["AvailableIpAddressCount"] == ADDRESSES - 1, "every address but the witness's is free again"
    witness.untouched()


def made_with(account: Account, token: str) -> list[str]:
    return [i["InstanceId"] for i in instances(account.ec2, Filters=filters(client_token=[token]))]


@each("launch")
def test_f01_launch(account: Account, point: str):
    token = uuid4().hex
    with figures.trial("F01 launch") as trial:
        answered = dies(account.cloud, point, lambda: run(account, 3, ClientToken=token))
        trial.back()
        made = made_with(account, token)
        assert len(made) == (0 if step_of(point) in BEFORE else 3), "all of it, or nothing"
        assert answered in (None, made), "what was answered is there"
        settled(account, {"running", "terminated"})
        trial.recovered()
        assert not made or states(account.ec2, made) == {"running"}, "nothing was in the way"
        again = run(account, 3, ClientToken=token)
        wait(account, again, "running")
        assert sorted(again) == sorted(made_with(account, token)) and set(made) <= set(again), "done once"


@each("start")
def test_f02_start(account: Account, point: str):
    ids = running(account, 2)
    account.ec2.stop_instances(InstanceIds=ids)
    wait(account, ids, "stopped")
    before = {i["InstanceId"]: i["PrivateIpAddress"] for i in instances(account.ec2, ids)}
    with figures.trial("F02 start") as trial:
        dies(account.cloud, point, lambda: account.ec2.start_instances(InstanceIds=ids))
        trial.back()
        if step_of(point) in BEFORE:
            assert states(account.ec2, ids) == {"stopped"}, "nothing has happened"
        else:
            wait(account, ids, "running")
        trial.recovered()
        account.ec2.start_instances(InstanceIds=ids)
        wait(account, ids, "running")
        assert {i["InstanceId"]: i["PrivateIpAddress"] for i in instances(account.ec2, ids)} == before
        assert [boots(account, id) for id in ids] == [2, 2], "a guest that runs is not started again"


@each("stop")
def test_f02_stop(account: Account, point: str):
    ids = running(account, 2)
    with figures.trial("F02 stop") as trial:
        dies(account.cloud, point, lambda: account.ec2.stop_instances(InstanceIds=ids))
        trial.back()
        if step_of(point) in BEFORE:
            assert states(account.ec2, ids) == {"running"}, "nothing has happened"
        else:
            wait(account, ids, "stopped")
        trial.recovered()
        account.ec2.stop_instances(InstanceIds=ids)
        wait(account, ids, "stopped")
        codes = {i["StateReason"]["Code"] for i in instances(account.ec2, ids)}
        assert codes == {"Client.UserInitiatedShutdown"}
        account.ec2.start_instances(InstanceIds=ids)
        wait(account, ids, "running")


@each("reboot")
def test_f02_reboot(account: Account, point: str):
    ids = running(account, 2)
    with figures.trial("F02 reboot") as trial:
        dies(account.cloud, point, lambda: account.ec2.reboot_instances(InstanceIds=ids))
        trial.back()
        if step_of(point) in BEFORE:
            assert [boots(account, id) for id in ids] == [1, 1], "nothing has happened"
        else:
            until(lambda: min(boots(account, id) for id in ids) >= 2, "both have started over", every=0.05)
        trial.recovered()
        assert states(account.ec2, ids) == {"running"}, "a reboot ends nothing"
        seen = [boots(account, id) for id in ids]
        account.ec2.reboot_instances(InstanceIds=ids)
        until(lambda: all(boots(account, id) > was for id, was in zip(ids, seen)), "both start over once more")
        account.ec2.stop_instances(InstanceIds=ids)
        wait(account, ids, "stopped")


@each("terminate")
def test_f02_terminate(account: Account, point: str):
    stays, *ids = running(account, 3)
    with figures.trial("F02 terminate") as trial:
        dies(account.cloud, point, lambda: account.ec2.terminate_instances(InstanceIds=ids))
        trial.back()
        if step_of(point) in BEFORE:
            assert states(account.ec2, ids) == {"running"}, "nothing has happened"
        else:
            wait(account, ids, "terminated")
        trial.recovered()
        account.ec2.terminate_instances(InstanceIds=ids)
        wait(account, ids, "terminated")
        codes = {i["StateReason"]["Code"] for i in instances(account.ec2, ids)}
        assert codes == {"Client.UserInitiatedShutdown"}
        assert states(account.ec2, [stays]) == {"running"} and boots(account, stays) == 1


@pytest.mark.matrix
@each("launch")
def test_f28_terminated_when_it_is_back_from_a_launch(shared, account: Account, point: str):
    """What was half made is asked to end before the program that is back has gone on with it."""
    with figures.trial("F28 after a death") as trial:
        dies(account.cloud, point, lambda: run(account, 3))
        trial.back()
        ids = end_others(shared[1])
        assert len(ids) == (0 if step_of(point) in BEFORE else 3)
        until(lambda: not ids or states(account.ec2, ids) == {"terminated"}, "their end", 60, every=0.02)
        trial.recovered()
        account.cloud.wait_clean()


@pytest.mark.matrix
@each("launch", DURING)
def test_f28_terminated_while_it_is_built(account: Account, point: str):
    """The terminate comes when the launch is at this point, and nothing has died. Whether it came before the launch was
    through is for the hosts' slowness to say: on a busy machine they have to be slower."""
    early = (terminated_at(account, point, latency) for latency in (30, 100, 300, 1000))
    assert any(early), "it was early enough"
    account.cloud.restart()


def terminated_at(account: Account, point: str, latency: int) -> bool:
    """Instances end well that are terminated when the first of them is at the point; whether one was pending then."""
    cloud = account.cloud
    trace = cloud.home / "moments"
    trace.write_text("")
    cloud.stop()
    cloud.start(CUMULET_CRASH_TRACE=str(trace), CUMULET_FAKE_LATENCY_MS=str(latency))
    with figures.trial("F28 alive") as trial:
        ids = run(account, 6)
        until(lambda: point in trace.read_text().split(), f"{point} is passed", 20, every=0.001)
        trial.back()
        asked = account.ec2.terminate_instances(InstanceIds=ids)["TerminatingInstances"]
        until(lambda: states(account.ec2, ids) == {"terminated"}, "their end", 60, every=0.02)
        trial.recovered()
        cloud.wait_clean()
    return any(i["PreviousState"]["Name"] == "pending" for i in asked)


# Where what was begun is gone on with, and so can die again.
AGAIN = [
    ("launch", ("claimed", "begun", "tap", "defined", "firewall", "started", "closed")),
    ("start", ("defined", "started")), ("stop", ("off", "network")), ("reboot", ("begun", "reset")),
    ("terminate", ("begun", "absent", "network", "tombstone", "freed", "closed")),
]  # fmt: skip


@pytest.mark.matrix
@pytest.mark.parametrize(
    "point", [p for operation, steps in AGAIN for p in points_of(operation) if step_of(p) in steps]
)
def test_f01_f02_f28_dying_again_and_again_at_the_same_step(shared, account: Account, point: str):
    """Five deaths in a row; then it gets through, and a terminate that comes at that moment does too."""
    cloud, ec2 = account.cloud, account.ec2
    operation = point.split(".")[0]
    ids = running(account, 1) if operation != "launch" else []
    if operation == "start":
        ec2.stop_instances(InstanceIds=ids)
        wait(account, ids, "stopped")
    ask = {
        "launch": lambda: run(account, 1), "start": lambda: ec2.start_instances(InstanceIds=ids),
        "stop": lambda: ec2.stop_instances(InstanceIds=ids), "reboot": lambda: ec2.reboot_instances(InstanceIds=ids),
        "terminate": lambda: ec2.terminate_instances(InstanceIds=ids),
    }  # fmt: skip
    dies(cloud, point, ask[operation], times=5)
    end_others(shared[1])
    settled(account, {"running", "terminated"})


def test_the_points_are_those_that_are_passed_and_in_this_order(account: Account):
    """One operation after the other on one instance, with a trace of all points: a point that the list lacks, one that
    nothing passes, and one at the wrong place in the list fail."""
    cloud = account.cloud
    trace = cloud.home / "trace"
    cloud.stop()
    cloud.start(CUMULET_CRASH_TRACE=str(trace))
    # The schema is there already, so no migration's point is among them.
    coming_up = {point for point in up_points() if not is_migration(point)}
    until(lambda: set(trace.read_text().split()) >= coming_up, f"{coming_up} are passed", 20)
    assert set(trace.read_text().split()) == coming_up
    trace.write_text("")

    def all_passed(*operations: str, beside: tuple[str, ...] = ()) -> dict[str, list[str]]:
        """What is new in the trace, by operation, once they have come to their ends. Of those beside them there may be
        something, too."""
        wanted = [point for operation in operations for point in points_of(operation)]
        until(lambda: set(trace.read_text().split()) >= set(wanted), f"{wanted} are passed", 20)
        lines = list(dict.fromkeys(trace.read_text().split()))
        assert [line for line in lines if line.split(".")[0] not in (*operations, *beside)] == []
        trace.write_text("")
        return {name: [line for line in lines if line.split(".")[0] == name] for name in operations}

    def passed(operation: str) -> list[str]:
        return all_passed(operation)[operation]

    seen = {}
    (id,) = run(account)
    seen["launch"] = passed("launch")
    account.ec2.stop_instances(InstanceIds=[id])
    seen["stop"] = passed("stop")
    account.ec2.start_instances(InstanceIds=[id])
    seen["start"] = passed("start")
    account.ec2.reboot_instances(InstanceIds=[id])
    seen["reboot"] = passed("reboot")
    # A host stops and starts for it.
    image = account.ec2.create_image(InstanceId=id, Name="made")["ImageId"]
    seen |= all_passed("create-image", "run-again", beside=("stop", "create-snapshot", "start"))
    account.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    # The volume has been somewhere, or its end would be nobody's to carry out.
    volume = volumes.create(account)
    account.ec2.attach_volume(VolumeId=volume, InstanceId=id, Device="/dev/sdf")
    seen["attach-volume"] = passed("attach-volume")
    account.ec2.create_snapshot(VolumeId=volume)
    seen["create-snapshot"] = passed("create-snapshot")
    account.ec2.modify_volume(VolumeId=volume, Size=2)
    seen["modify-volume"] = passed("modify-volume")
    account.ec2.detach_volume(VolumeId=volume)
    seen["detach-volume"] = passed("detach-volume")
    account.ec2.delete_volume(VolumeId=volume)
    seen["delete-volume"] = passed("delete-volume")
    account.ec2.terminate_instances(InstanceIds=[id])
    seen["terminate"] = passed("terminate")
    cloud.restart()
    # Whoever goes on does not wait for these.
    loose = ("committed", "sent", "reported")
    for operation, lines in seen.items():
        expected = points_of(operation)
        assert set(lines) == set(expected)
        assert [l for l in lines if step_of(l) not in loose] == [p for p in expected if step_of(p) not in loose]
    operations = {point.split(".")[0] for point in points()}
    assert operations == set(seen), "every operation has its test"
    assert {step_of(point) for point in points() if step_of(point) in REAL_STEPS} == set(REAL_STEPS)


def test_the_program_names_its_points():
    """Without them nothing of the above would have run."""
    assert len(points()) == len(set(points())) > 80

"""The process dies at each named step of the operations on volumes, in the API, the conductor and the worker, and comes
back: what was asked for is done or nothing has happened, the next operation on the volume is done too, and database
and hosts agree. Simulated hosts; a real guest at every point of an attach and a detach in `test_kill_real.py`."""

import pytest

from harness import figures, volumes
from harness.cloud import Account, Cloud
from harness.crash import BEFORE, dies, each, points_of, step_of
from harness.ec2 import instances, running, wait
from harness.volumes import attach, attached_to, create, describe, detach, is_gone, wait_attached, wait_free, wait_gone


@pytest.fixture(scope="module")
def cloud():
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def account(cloud: Cloud):
    """Its account; at a test's end nothing is left of it."""
    account = cloud.first_account()
    if cloud.process is None:  # left so by a test that failed
        cloud.start()
    yield account
    cloud.wait_clean()
    ids = [i["InstanceId"] for i in instances(account.ec2) if i["State"]["Name"] != "terminated"]
    if ids:
        account.ec2.terminate_instances(InstanceIds=ids)
        wait(account, ids, "terminated")
    volumes.delete_all(account)
    cloud.wait_clean()


@each("attach-volume")
def test_f02_attach(account: Account, point: str):
    ec2, (id,), volume = account.ec2, running(account), create(account)
    ask = lambda: ec2.attach_volume(VolumeId=volume, InstanceId=id, Device="/dev/sdf")  # noqa: E731
    with figures.trial("F02 attach") as trial:
        dies(account.cloud, point, ask)
        trial.back()
        if step_of(point) in BEFORE:
            assert describe(account, volume)["State"] == "available", "nothing has happened"
            ask()
        wait_attached(account, volume, id)
        trial.recovered()
        account.cloud.wait_clean()
        detach(account, volume)


@each("detach-volume")
def test_f02_detach(account: Account, point: str):
    (id,), volume = running(account), create(account)
    attach(account, volume, id)
    ask = lambda: account.ec2.detach_volume(VolumeId=volume)  # noqa: E731
    with figures.trial("F02 detach") as trial:
        dies(account.cloud, point, ask)
        trial.back()
        if step_of(point) in BEFORE:
            assert attached_to(account, volume) == (id, "attached"), "nothing has happened"
            ask()
        wait_free(account, volume)
        trial.recovered()
        account.cloud.wait_clean()
        attach(account, volume, id)


@each("modify-volume")
def test_f02_modify(account: Account, point: str):
    (id,), volume = running(account), create(account)
    attach(account, volume, id)
    ask = lambda: account.ec2.modify_volume(VolumeId=volume, Size=3)  # noqa: E731
    with figures.trial("F02 modify") as trial:
        dies(account.cloud, point, ask)
        trial.back()
        if step_of(point) in BEFORE:
            assert describe(account, volume)["Size"] == 1, "nothing has happened"
            ask()
        volumes.wait_modified(account, volume)
        trial.recovered()
        assert describe(account, volume)["Size"] == 3
        account.cloud.wait_clean()
        detach(account, volume)


@each("delete-volume")
def test_f02_delete(account: Account, point: str):
    (id,), volume = running(account), create(account)
    attach(account, volume, id)
    detach(account, volume)
    ask = lambda: account.ec2.delete_volume(VolumeId=volume)  # noqa: E731
    with figures.trial("F02 delete") as trial:
        dies(account.cloud, point, ask)
        trial.back()
        if step_of(point) in BEFORE:
            assert describe(account, volume)["State"] == "available", "nothing has happened"
            ask()
        wait_gone(account, volume)
        trial.recovered()
        account.cloud.wait_clean()


@each("create-snapshot")
def test_f02_snapshot(account: Account, point: str):
    ec2, (id,), volume = account.ec2, running(account), create(account)
    attach(account, volume, id)
    theirs = lambda: volumes.snapshots_of(account, volume)  # noqa: E731
    ask = lambda: ec2.create_snapshot(VolumeId=volume)  # noqa: E731
    with figures.trial("F02 snapshot") as trial:
        dies(account.cloud, point, ask)
        trial.back()
        if step_of(point) in BEFORE:
            assert theirs() == [], "nothing has happened"
            ask()
        (snapshot,) = theirs()
        volumes.wait_completed(account, snapshot["SnapshotId"])
        trial.recovered()
        account.cloud.wait_clean()
        ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
        detach(account, volume)


@pytest.mark.matrix
@pytest.mark.parametrize("point", points_of("attach-volume"))
def test_f28_terminated_when_it_is_back_from_an_attach(account: Account, point: str):
    """The instance ends before the program that is back has gone on; the volume is free, and stays."""
    ec2, (id,), volume = account.ec2, running(account), create(account)
    dies(account.cloud, point, lambda: ec2.attach_volume(VolumeId=volume, InstanceId=id, Device="/dev/sdf"))
    ec2.terminate_instances(InstanceIds=[id])
    wait(account, [id], "terminated")
    wait_free(account, volume)
    account.cloud.wait_clean()
    assert not is_gone(account, volume)

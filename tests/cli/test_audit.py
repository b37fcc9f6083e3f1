"""`cumulet audit` beside a cloud at work raises no false alarm, and sees what really does not agree."""

import sqlite3
import threading

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from harness import volumes
from harness.cloud import Account, Cloud
from harness.ec2 import instances, run, running, wait


@pytest.fixture
def cloud():
    with Cloud(variables={"CUMULET_FAKE_LATENCY_MS": "20"}) as cloud:
        yield cloud


class Busy(threading.Thread):
    """Launches, stops, starts and terminates until it is told to end."""

    def __init__(self, account: Account) -> None:
        super().__init__(daemon=True)
        self.account, self.done, self.rounds = account, threading.Event(), 0

    def run(self) -> None:
        ec2 = self.account.ec2
        while not self.done.is_set():
            try:
                ids = run(self.account, 4)
                wait(self.account, ids, "running")
                ec2.stop_instances(InstanceIds=ids[:2])
                wait(self.account, ids[:2], "stopped")
                ec2.start_instances(InstanceIds=ids[:1])
                ec2.terminate_instances(InstanceIds=ids)
                wait(self.account, ids, "terminated")
                self.rounds += 1
            except (BotoCoreError, ClientError):
                return


@pytest.mark.roles
def test_a_busy_cloud_raises_no_alarm(cloud: Cloud):
    busy = [Busy(cloud.first_account()) for _ in range(4)]
    for thread in busy:
        thread.start()
    try:
        found = [cloud.audit()["differences"] for _ in range(25)]
    finally:
        for thread in busy:
            thread.done.set()
        for thread in busy:
            thread.join(60)
    assert found == [[]] * 25
    assert all(thread.rounds for thread in busy), "it was busy"


def spoil(cloud: Cloud, change: str) -> dict[str, bytes]:
    """Makes a change behind the cloud's back; the database's files before."""
    files = {suffix: cloud.state / f"cumulet.db{suffix}" for suffix in ("", "-wal", "-shm")}
    kept = {suffix: file.read_bytes() for suffix, file in files.items() if file.exists()}
    database = sqlite3.connect(files[""])
    database.execute(change)
    database.commit()
    database.close()
    return kept


@pytest.mark.one_process
def test_leaks_in_the_database_are_found(cloud: Cloud):
    account = cloud.first_account()
    (id,) = running(account)
    volume = volumes.create(account)
    volumes.attach(account, volume, id)
    assert cloud.audit()["differences"] == []
    cloud.stop()
    cases = [
        ("update accounts set instances_used = instances_used + 1", "instances are counted"),
        ("update accounts set vcpus_used = vcpus_used + 2", "vCPUs are counted"),
        ("update hosts set memory_mib_used = 0", "MiB of memory are claimed"),
        ("update instances set state = 'stopping'", "nothing is under way"),
        ("update instances set state = 'terminated'", "still has the addresses"),
        ("update volume_attachments set state = 'busy' where boot_index is null", f"{volume} is busy at {id}, and nothing is under way"),
        ("delete from volume_attachments where boot_index is null", f"{id} has {volume} plugged in and no attachment"),
        ("update volumes set size_gib = 7 where image is null", "GiB of disk are claimed"),
    ]
    for change, words in cases:
        kept = spoil(cloud, change)
        found = "; ".join(cloud.audit()["differences"])
        assert words in found, (change, found)
        for suffix, content in kept.items():
            cloud.state.joinpath(f"cumulet.db{suffix}").write_bytes(content)
        assert cloud.audit()["differences"] == [], "as it was"
    cloud.start()
    assert [i["InstanceId"] for i in instances(account.ec2)] == [id]

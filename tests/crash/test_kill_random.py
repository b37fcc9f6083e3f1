"""`kill -9` at any moment of a busy minute. What was answered is kept; what was asked with a token is done once."""

import random
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from harness.cloud import Account, Cloud
from harness.ec2 import instances, running, wait
from harness.wait import until

# Also for `audit`, which reads no configuration file.
THREE_HOSTS = {"CUMULET_FAKE_HOSTS": "3"}


@pytest.fixture
def cloud():
    with Cloud(variables=THREE_HOSTS) as cloud:
        yield cloud


class Busy(threading.Thread):
    """A client that launches, stops, starts and terminates until it is cut off, and remembers the answers."""

    def __init__(self, account: Account, seed: int) -> None:
        super().__init__()
        self.account, self.random = account, random.Random(seed)
        self.made: dict[str, list[str]] = {}
        self.ended: set[str] = set()
        self.tokens: list[str] = []

    def run(self) -> None:
        try:
            while True:
                self.step()
        except (BotoCoreError, ClientError):
            pass

    def step(self) -> None:
        ec2 = self.account.ec2
        token = f"{self.name}-{len(self.tokens)}"
        self.tokens.append(token)
        self.made[token] = launch(self.account, token)
        ids = [id for made in self.made.values() for id in made if id not in self.ended]
        if self.random.random() < 0.5:
            gone = self.random.choice(ids)
            ec2.terminate_instances(InstanceIds=[gone])
            self.ended.add(gone)


def launch(account: Account, token: str) -> list[str]:
    made = account.ec2.run_instances(
        ImageId=account.cloud.image, InstanceType="t3.nano", MinCount=2, MaxCount=2, ClientToken=token
    )
    return [i["InstanceId"] for i in made["Instances"]]


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_a_random_moment(cloud: Cloud, seed: int):
    account = cloud.first_account()
    kept = running(account, 2)
    seen_before = instances(account.ec2, kept)
    busy = [Busy(account, seed * 10 + n) for n in range(3)]
    for thread in busy:
        thread.start()
    time.sleep(random.Random(seed).uniform(0.02, 0.6))  # the moment of death, not a wait for anything
    cloud.kill()
    for thread in busy:
        thread.join(30)
    cloud.start()

    def settled():
        seen = instances(account.ec2)
        assert {i["State"]["Name"] for i in seen} <= {"running", "terminated"}
        return seen

    seen = {i["InstanceId"]: i for i in until(settled, "everything is running or terminated", 60)}
    assert [seen[id] for id in kept] == seen_before
    for thread in busy:
        for token, ids in thread.made.items():
            assert set(ids) <= seen.keys(), "what was answered is there"
            assert launch(account, token) == ids, "and is not done again"
        for id in thread.ended:
            assert seen[id]["State"]["Name"] == "terminated" and seen[id]["StateReason"]["Code"]
        # The last one was cut off: done or not, asked again it is there once.
        assert len(launch(account, thread.tokens[-1])) == 2
    until(settled, "everything is running or terminated", 60)
    tokens = {token for thread in busy for token in thread.tokens}
    assert len(instances(account.ec2)) == 2 + 2 * len(tokens)
    cloud.wait_clean()
    ids = [i["InstanceId"] for i in instances(account.ec2)]
    account.ec2.terminate_instances(InstanceIds=ids)
    wait(account, ids, "terminated")
    cloud.wait_clean()

"""`kill -9` at any moment of a busy minute, again and again. What was answered is kept; what was asked with a token is
done once; every instance is in the end what it was last told to be."""

import random
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from harness.cloud import Account, Cloud
from harness.crash import Witness
from harness.ec2 import instances, wait
from harness.wait import until

# Also for `audit`, which reads no configuration file.
THREE_HOSTS = {"CUMULET_FAKE_HOSTS": "3", "CUMULET_FAKE_LATENCY_MS": "3"}

# What a call asks for, and what it makes of an instance.
CALLS = {"start": "running", "stop": "stopped", "reboot": "running", "terminate": "terminated"}
FINAL = {"running", "stopped", "terminated"}


@pytest.fixture
def cloud():
    with Cloud(variables=THREE_HOSTS) as cloud:
        yield cloud


def launch(account: Account, token: str) -> list[str]:
    made = account.ec2.run_instances(
        ImageId=account.cloud.image, InstanceType="t3.nano", MinCount=2, MaxCount=2, ClientToken=token
    )
    return [i["InstanceId"] for i in made["Instances"]]


class Busy(threading.Thread):
    """A client that launches, starts, stops, reboots and terminates until it is cut off, and remembers the answers."""

    def __init__(self, account: Account, seed: int) -> None:
        super().__init__()
        self.account, self.random = account, random.Random(seed)
        self.made: dict[str, list[str]] = {}
        self.tokens: list[str] = []
        # What each instance was last told to be; both where the last call was not answered.
        self.wished: dict[str, set[str]] = {}

    def run(self) -> None:
        try:
            while True:
                self.step()
        except BotoCoreError:
            pass

    def step(self) -> None:
        if len(self.tokens) < 3 or self.random.random() < 0.2:
            token = f"{self.name}-{len(self.tokens)}"
            self.tokens.append(token)
            self.made[token] = launch(self.account, token)
            self.wished |= {id: {"running"} for id in self.made[token]}
            return
        call, id = self.random.choice(list(CALLS)), self.random.choice(list(self.wished))
        before = self.wished[id]
        self.wished[id] = before | {CALLS[call]}
        try:
            getattr(self.account.ec2, f"{call}_instances")(InstanceIds=[id])
            # A reboot of what runs; nothing new is wished.
            self.wished[id] = before if call == "reboot" else {CALLS[call]}
        except ClientError:  # not in a state for that: nothing has changed
            self.wished[id] = before


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.roles] * (seed < 2)) for seed in range(6)])
def test_killed_at_random_moments(cloud: Cloud, seed: int):
    account = cloud.first_account()
    witness, moments = Witness(account), random.Random(seed)
    busy = [Busy(account, seed * 10 + n) for n in range(3)]
    for thread in busy:
        thread.start()
    time.sleep(moments.uniform(0.02, 0.9))  # the moment of death, not a wait for anything
    cloud.kill()
    for thread in busy:
        thread.join(30)
    for _ in range(2):  # and while it comes back
        cloud.launch()
        time.sleep(moments.uniform(0.02, 0.3))
        cloud.kill()
    cloud.start()

    def settled():
        seen = {i["InstanceId"]: i for i in instances(account.ec2)}
        states = {id: i["State"]["Name"] for id, i in seen.items()}
        assert set(states.values()) <= FINAL, states
        return seen

    seen = until(settled, "nothing is under way", 60)
    for thread in busy:
        for token, ids in thread.made.items():
            assert set(ids) <= seen.keys(), "what was answered is there"
            assert launch(account, token) == ids, "and is not done again"
        for id, wished in thread.wished.items():
            assert seen[id]["State"]["Name"] in wished, id
            assert seen[id]["State"]["Name"] == "running" or seen[id]["StateReason"]["Code"]
        # The last one was cut off: done or not, asked again it is there once.
        assert len(launch(account, thread.tokens[-1])) == 2
    until(settled, "nothing is under way", 60)
    tokens = {token for thread in busy for token in thread.tokens}
    assert len(instances(account.ec2)) == 1 + 2 * len(tokens)
    witness.untouched()
    cloud.wait_clean()
    ids = [i["InstanceId"] for i in instances(account.ec2)]
    account.ec2.terminate_instances(InstanceIds=ids)
    wait(account, ids, "terminated")
    cloud.wait_clean()

"""F23, F24: a host goes silent: within a minute it counts for nothing, new instances go elsewhere, and when it comes
back it is told what has changed meanwhile, and obeys nothing that is old."""

import json
import signal

import pytest

from harness import figures
from harness.cloud import Cloud
from harness.crash import boots
from harness.ec2 import instance, run, running, wait
from harness.wait import until

SEEN = 60.0


def hosts(cloud: Cloud) -> dict[str, dict]:
    return {host["host"]: host for host in json.loads(cloud.run("admin", "host", "list", "--json"))}


@pytest.fixture
def cloud(kind: str):
    with Cloud("fake", cluster=kind) as cloud:
        cloud.another("compute")
        cloud.start()
        until(lambda: len([h for h in hosts(cloud).values() if h["alive"]]) == 2, "two hosts", 30)
        yield cloud
        cloud.start()
        cloud.wait_clean(60)


def test_f23_a_lost_host_gets_nothing_new(cloud: Cloud):
    account = cloud.account()
    ids = running(account, 8)
    placed = {}
    for id in ids:
        placed.setdefault(where(cloud, id), []).append(id)
    assert len(placed) == 2, "they spread"
    victim = next(p for p in cloud.processes if p.name.startswith("compute-"))
    lost = victim.variables_of_its_own["CUMULET_HOST"]
    victim.kill()
    until(lambda: not hosts(cloud)[lost]["alive"], "the host counts as dead", SEEN, every=0.5)
    more = running(account, 4)
    assert all(where(cloud, id) != lost for id in more)
    for id in placed[lost]:
        assert instance(account.ec2, id)["State"]["Name"] == "running", "no action on suspicion alone"
    cloud.start()
    with figures.trial("F23 the host is back"):
        until(lambda: hosts(cloud)[lost]["alive"], "it is back", 30, every=0.2)
    assert all(boots(account, id) == 1 for id in placed[lost]), "its guests were not touched"


def where(cloud: Cloud, id: str) -> str:
    """The host that has an instance."""
    return next(name for name, host in hosts(cloud).items() if id in host["instances"])


def test_f24_a_host_that_slept_obeys_nothing_old(cloud: Cloud):
    account = cloud.account()
    cloud.run("admin", "host", "disable", other(cloud), "--reason", "test")
    (id,) = running(account)
    asleep = next(p for p in cloud.processes if p.name.startswith("compute-"))
    asleep.send_signal(signal.SIGSTOP)
    # It is asked for twice what the sleeper will find in its queue, and then for the opposite.
    account.ec2.reboot_instances(InstanceIds=[id])
    account.ec2.terminate_instances(InstanceIds=[id])
    late = run(account)
    account.ec2.terminate_instances(InstanceIds=late)
    asleep.send_signal(signal.SIGCONT)
    with figures.trial("F24"):
        wait(account, [id, *late], "terminated", SEEN)


def other(cloud: Cloud) -> str:
    asleep = next(p for p in cloud.processes if p.name.startswith("compute-")).variables_of_its_own["CUMULET_HOST"]
    return next(name for name in hosts(cloud) if name != asleep)

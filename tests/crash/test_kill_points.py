"""The process dies at each named step of launch, stop and terminate, and comes back: everything ends well or with a
reason within a minute, nothing is left over, and guests that ran were not touched. Simulated hosts."""

from pathlib import Path

import pytest

from harness.cloud import Account, Cloud
from harness.crash import dies, settled
from harness.ec2 import instances, run, running, wait

# Steps that a simulated host goes through; those of images and disks are in test_kill_real.py.
LAUNCH = [
    "run.6.received", "run.11.tap", "run.13.metadata", "run.14.defined", "run.12.firewall", "run.15.started",
    "run.16.reported",
]  # fmt: skip
STOP = ["stop.1.received", "stop.2.off", "stop.3.reported"]
DESTROY = [
    "destroy.1.received", "destroy.2.absent", "destroy.3.network", "destroy.4.metadata", "destroy.5.disk",
    "destroy.6.reported",
]  # fmt: skip


@pytest.fixture
def cloud(crash_binary: Path):
    with Cloud(binary=crash_binary) as cloud:
        yield cloud


def end(cloud: Cloud, account: Account) -> None:
    """Everything can still be ended, and nothing is left of it."""
    cloud.wait_clean()
    ids = [i["InstanceId"] for i in instances(account.ec2) if i["State"]["Name"] != "terminated"]
    account.ec2.terminate_instances(InstanceIds=ids)
    wait(account, ids, "terminated")
    cloud.wait_clean()
    subnet = account.ec2.describe_subnets()["Subnets"][0]
    assert subnet["AvailableIpAddressCount"] == 4091, "every address is free again"


@pytest.mark.parametrize("point", LAUNCH)
def test_launch(cloud: Cloud, point: str):
    account = cloud.first_account()
    before = running(account, 2)
    seen_before = instances(account.ec2, before)
    dies(cloud, point, lambda: run(account, 3))
    settled(account, {"running", "terminated"})
    assert instances(account.ec2, before) == seen_before, "what ran was not touched"
    assert len([i for i in instances(account.ec2) if i["State"]["Name"] == "running"]) == 5, "nothing was in the way"
    end(cloud, account)


@pytest.mark.parametrize("point", STOP)
def test_stop_and_start(cloud: Cloud, point: str):
    account = cloud.first_account()
    stays, goes = running(account, 2)
    seen_before = instances(account.ec2, [stays])
    dies(cloud, point, lambda: account.ec2.stop_instances(InstanceIds=[goes]))
    settled(account, {"running", "stopped"})
    wait(account, [goes], "stopped")
    assert instances(account.ec2, [stays]) == seen_before
    account.ec2.start_instances(InstanceIds=[goes])
    wait(account, [goes], "running")
    end(cloud, account)


@pytest.mark.parametrize("point", DESTROY)
def test_terminate(cloud: Cloud, point: str):
    account = cloud.first_account()
    ids = running(account, 3)
    seen_before = instances(account.ec2, ids[:1])
    dies(cloud, point, lambda: account.ec2.terminate_instances(InstanceIds=ids[1:]))
    settled(account, {"running", "terminated"})
    wait(account, ids[1:], "terminated")
    assert instances(account.ec2, ids[:1]) == seen_before
    end(cloud, account)


def test_dying_again_and_again_at_the_same_step(cloud: Cloud):
    """Five deaths in a row before the launch gets through."""
    account = cloud.first_account()
    dies(cloud, "run.14.defined", lambda: run(account, 1))
    for _ in range(4):
        cloud.kill()
        cloud.launch(CUMULET_CRASH_AT="run.14.defined")
        try:
            cloud.wait_death(10)
        except Exception:  # it got through before the restart: then there is nothing to die of
            break
    if cloud.process is None:
        cloud.start()
    settled(account, {"running", "terminated"})
    end(cloud, account)

"""A hypervisor that is slow: from the start its host takes no launches and says why, until its calls are quick; one that is
slow for a while delays what is under way, and ends nothing."""

import json
import time
from pathlib import Path

import pytest

from harness.cloud import Cloud
from harness.ec2 import instance, refused, run, running, states, wait
from harness.wait import until

# From a second on a call is slow.
SLOW = """
[hypervisor]
slow_call = 1
[fake]
slow_file = "{file}"
"""

REASON = "the simulated hypervisor takes"


def make(tmp_path: Path) -> tuple[Cloud, Path]:
    """A cloud of one process, and the file that makes its hypervisor slow while it is there."""
    file = tmp_path / "slow"
    return Cloud("fake", SLOW.format(file=file), cluster=""), file


def slow(file: Path, seconds: float) -> None:
    whole = file.with_suffix(".new")
    whole.write_text(str(int(seconds * 1000)))
    whole.rename(file)


def host(cloud: Cloud) -> dict:
    (found,) = json.loads(cloud.run("admin", "host", "list", "--json"))
    return found


def until_ready(cloud: Cloud, ready: bool) -> dict:
    def told():
        found = host(cloud)
        return found if found["ready"] == ready else None

    return until(told, "a host that is ready" if ready else "a host that is not ready", 30)


@pytest.mark.one_process
def test_a_host_that_is_slow_from_the_start_refuses_with_its_reason_and_recovers(tmp_path: Path):
    cloud, file = make(tmp_path)
    slow(file, 3)
    began = time.monotonic()
    with cloud:
        assert time.monotonic() - began < 30, "a slow hypervisor keeps nobody from starting"
        account = cloud.account()
        with refused("InsufficientInstanceCapacity", 500):
            run(account)
        assert "a host is not ready, and launches are refused" in cloud.text(), "it is said before anything is launched"
        found = until(lambda: (h := host(cloud)) and REASON in (h["not_ready_reason"] or "") and h, "the reason", 30)
        assert found["alive"] and found["state"] == "enabled" and not found["ready"]
        with refused("InsufficientInstanceCapacity", 500, f"Host {found['host']}: {REASON}") as caught:
            run(account)
        assert "no host is ready" in str(caught.value) and "filter" not in str(caught.value)
        shown = cloud.run("admin", "host", "show", found["host"])
        assert "not ready" in shown and REASON in shown and "what helps" in shown
        file.unlink()
        until_ready(cloud, True)
        ids = running(account, 2)
        cloud.wait_clean()
        account.ec2.terminate_instances(InstanceIds=ids)
        wait(account, ids, "terminated")


# A call is waited for 40 seconds: the longer one is late, and looked at again.
@pytest.mark.one_process
@pytest.mark.parametrize("seconds", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_a_host_that_is_slow_for_a_while_delays_what_is_under_way(tmp_path: Path, seconds: int):
    cloud, file = make(tmp_path)
    with cloud:
        account = cloud.account()
        ec2 = account.ec2
        stopped, ended, rebooted = running(account, 3)
        slow(file, 3600)
        time.sleep(0.5)  # until the host has seen the file; nothing tells of it
        launched = run(account, 2)
        ec2.stop_instances(InstanceIds=[stopped])
        ec2.terminate_instances(InstanceIds=[ended])
        ec2.reboot_instances(InstanceIds=[rebooted])
        assert REASON in until_ready(cloud, False)["not_ready_reason"]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert states(ec2, launched) == {"pending"}, "it is delayed"
            time.sleep(1)
        file.unlink()
        wait(account, [*launched, rebooted], "running")
        wait(account, [stopped], "stopped")
        wait(account, [ended], "terminated")
        for id in launched:
            assert "StateReason" not in instance(ec2, id), "nothing has failed"
        until_ready(cloud, True)
        cloud.wait_clean()

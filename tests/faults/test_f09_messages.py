"""F09, F10: every message arrives twice or ten times, or late and in another order, or every k-th never: what all
instances come to is the same as without, and no guest is started, or started over, once too often.

With every message lost (k = 1) nothing ever reaches a host that is another process, and nothing could converge before
the loss ends: k is 2 to 10."""

from pathlib import Path

import pytest

from harness import figures
from harness.cloud import Account, Cloud
from harness.crash import boots
from harness.ec2 import instances, run, states
from harness.metrics import counted, of_cloud
from harness.wait import until


def bad(kind: str, binary: Path, faults: str) -> Cloud:
    """A cloud whose processes treat their messages so; not started."""
    return counted(Cloud("fake", binary=binary, variables={"CUMULET_FAULTS": faults}, cluster=kind))


class Life:
    """Instances of an account, each of whose ways is a trial of its own."""

    def __init__(self, account: Account, fault: str, timeout: float) -> None:
        self.account, self.fault, self.timeout = account, fault, timeout

    def arrive(self, ids: list[str], state: str) -> None:
        with figures.trial(self.fault):
            there = lambda: states(self.account.ec2, ids) == {state}  # noqa: E731
            until(there, f"{ids} are {state}", self.timeout, every=0.1)

    def live(self) -> None:
        """Eight instances, of which some are ended, stopped, started and rebooted, and four that end as they begin."""
        account, ec2 = self.account, self.account.ec2
        ids = run(account, 8)
        self.arrive(ids, "running")
        ended, stopped, again, rebooted = (ids[at : at + 2] for at in range(0, 8, 2))
        ec2.stop_instances(InstanceIds=[*stopped, *again])
        ec2.reboot_instances(InstanceIds=rebooted)
        ec2.terminate_instances(InstanceIds=ended)
        self.arrive([*stopped, *again], "stopped")
        self.arrive(ended, "terminated")
        ec2.start_instances(InstanceIds=again)
        self.arrive(again, "running")
        # A host is asked for its console over the same messages.
        for id in [*again, *rebooted]:
            until(lambda: console(account, id) >= 2, f"{id} has started over", self.timeout)  # noqa: B023
            assert console(account, id) == 2, f"{id} has started over once"
        assert states(ec2, rebooted) == {"running"}
        early = run(account, 4)
        ec2.terminate_instances(InstanceIds=early)
        self.arrive(early, "terminated")
        assert len(instances(ec2)) == 12
        account.cloud.wait_clean(self.timeout)


def console(account: Account, id: str) -> int:
    """How often a guest has started, as soon as its host answers."""
    seen: list[int] = []

    def asked() -> bool:
        try:
            seen.append(boots(account, id))
        except account.ec2.exceptions.ClientError as error:
            raise AssertionError(str(error)) from error
        return True

    until(asked, f"the console of {id}", 60)
    return seen[-1]


@pytest.mark.parametrize("faults", ["repeat=2", "repeat=10", "reorder=200", "repeat=10,reorder=200"])
def test_f09_repeated_and_reordered(kind: str, crash_binary: Path, faults: str):
    with bad(kind, crash_binary, faults) as cloud:
        Life(cloud.first_account(), f"F09 {faults}", 60).live()
        seen = of_cloud(cloud)
        if "repeat" in faults:
            dropped = sum(seen[f"cumulet_worker_commands_{why}_total"] for why in ("repeated", "stale"))
            assert dropped > 0, "the drops are counted"


# What is lost is sent again after a quarter of a minute, and may be lost again, as may the answer: of a dozen instances
# one has bad luck several times over, the more so the more is lost.
LATEST = {2: 480, 3: 240}


@pytest.mark.slow
@pytest.mark.parametrize("k", range(2, 11))
def test_f10_every_kth_is_lost(kind: str, crash_binary: Path, k: int):
    with bad(kind, crash_binary, f"lose={k}") as cloud:
        Life(cloud.first_account(), f"F10 one of {k} is lost", LATEST.get(k, 150)).live()

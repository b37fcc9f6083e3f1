"""The ways of a dozen instances in a cloud whose messages are treated badly."""

from . import figures
from .cloud import Account, Cloud
from .crash import boots
from .ec2 import instances, run, states
from .metrics import counted
from .wait import until


def bad(kind: str, faults: str) -> Cloud:
    """A cloud whose processes treat their messages so; not started."""
    return counted(Cloud("fake", variables={"CUMULET_FAULTS": faults}, cluster=kind))


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

"""Dying at a named step and coming back."""

import signal

from botocore.exceptions import BotoCoreError, ClientError

from .cloud import Account, Cloud
from .ec2 import instances
from .wait import until


def last_words(call) -> None:
    """A request that the process may not live to answer."""
    try:
        call()
    except (BotoCoreError, ClientError):
        pass


def dies(cloud: Cloud, point: str, call) -> None:
    """Restarts the cloud so that it dies at the point, and does what leads there."""
    cloud.stop()
    cloud.start(CUMULET_CRASH_AT=point)
    last_words(call)
    assert cloud.wait_death(30) in (-signal.SIGKILL, -signal.SIGABRT), cloud.tail()
    cloud.start()


def settled(account: Account, final: set[str]) -> list[dict]:
    """Every instance has arrived, within the minute, and what ended says why."""

    def all_there():
        seen = instances(account.ec2)
        assert {i["State"]["Name"] for i in seen} <= final, [i["State"]["Name"] for i in seen]
        return seen

    seen = until(all_there, f"every instance is {' or '.join(sorted(final))}", 60)
    assert all(i["StateReason"]["Code"] for i in seen if i["State"]["Name"] == "terminated")
    return seen

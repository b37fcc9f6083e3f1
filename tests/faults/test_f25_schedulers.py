"""F25: several schedulers, and more launches than there is room: exactly as many as fit are placed, no host is oversold
at any moment, and nobody waits long for an answer."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from harness import figures
from harness.cloud import Account, Cloud
from harness.database import oversold, watch_hosts
from harness.ec2 import instances, run
from harness.wait import until

# Of t3.nano (512 MiB): a hundred hosts with room for ten each; addresses for all of them.
HOSTS, EACH = 100, 10
CONFIG = f"""
[fake]
hosts = {HOSTS}
vcpus = 64
memory_mib = {512 * EACH}
[scheduler]
ram_allocation_ratio = 1.0
[network]
public_pool = "10.64.0.0/12"
"""
ROOM = HOSTS * EACH
PATIENCE = 5.0


def launch(account: Account, count: int) -> float:
    """Asks for instances; the seconds until the answer."""
    began = time.monotonic()
    try:
        run(account, count)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "InsufficientInstanceCapacity", error
    return time.monotonic() - began


def arrived(account: Account) -> list[str]:
    states = [i["State"]["Name"] for i in instances(account.ec2)]
    assert "pending" not in states and "shutting-down" not in states, states.count("pending")
    return states


# One process has one of each role.
CLOUDS = [("", 1), *((database, count) for database in ("postgresql", "mariadb") for count in (2, 5))]


@pytest.mark.slow
@pytest.mark.parametrize("database, schedulers", CLOUDS)
def test_f25_what_fits_is_placed_and_no_more(database: str, schedulers: int):
    with Cloud("fake", CONFIG, cluster=database) as cloud:
        for _ in range(schedulers - 1):
            cloud.another("scheduler")
        if schedulers > 1:
            cloud.start()
        listed = lambda: json.loads(cloud.run("admin", "host", "list", "--json"))  # noqa: E731
        until(lambda: len([h for h in listed() if h["alive"]]) == HOSTS, "all hosts", 60)
        watch_hosts(cloud)
        account = cloud.account()
        # Up to 99 %, and then a crowd for what is left.
        for _ in range(99):
            run(account, ROOM // 100)
        until(lambda: arrived(account), "99 % are in use", 120, every=0.5)
        with figures.trial("F25 the last places"):
            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(lambda _: launch(account, 1), range(200)))
            states = until(lambda: arrived(account), "every instance has arrived", 120, every=0.5)
        assert states.count("running") == ROOM
        assert figures.quantile(answers, 0.99) < PATIENCE
        seen, wrong = oversold(cloud)
        assert wrong == 0, "no host gave out more than it has, at any moment"
        assert seen >= ROOM
        for host in listed():
            assert all(host[kind]["used"] <= host[kind]["max"] for kind in ("memory_mib", "vcpus", "disk_gib")), host
        cloud.wait_clean(60)

"""F25: several schedulers, and more launches than there is room: exactly as many as fit, and never oversold."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from harness.cloud import Cloud
from harness.ec2 import instances, run
from harness.wait import until

# Of t3.nano (512 MiB): a hundred hosts with room for ten each.
HOSTS, EACH = 100, 10
CONFIG = f"""
[fake]
hosts = {HOSTS}
vcpus = 64
memory_mib = {512 * EACH}
[scheduler]
ram_allocation_ratio = 1.0
"""


@pytest.mark.slow
@pytest.mark.parametrize("schedulers", [2, 5])
def test_f25_what_fits_is_placed_and_no_more(kind: str, schedulers: int):
    with Cloud("fake", CONFIG, cluster=kind) as cloud:
        for _ in range(schedulers - 1):
            cloud.another("scheduler")
        cloud.start()
        listed = lambda: json.loads(cloud.run("admin", "host", "list", "--json"))  # noqa: E731
        until(lambda: len([h for h in listed() if h["alive"]]) == HOSTS, "all hosts", 60)
        account = cloud.account()

        def launch(_: int) -> int:
            try:
                return len(run(account, 10))
            except ClientError as error:
                assert error.response["Error"]["Code"] == "InsufficientInstanceCapacity", error
                return 0

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(launch, range(HOSTS * EACH // 10 + 20)))

        def settled():
            seen = [i["State"]["Name"] for i in instances(account.ec2)]
            assert "pending" not in seen and "shutting-down" not in seen
            return seen

        seen = until(settled, "every instance has arrived", 120, every=0.5)
        assert seen.count("running") == HOSTS * EACH
        for host in listed():
            assert all(host[kind]["used"] <= host[kind]["max"] for kind in ("memory_mib", "vcpus", "disk_gib")), host
        cloud.wait_clean(60)

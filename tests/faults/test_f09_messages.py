"""F09: every message arrives twice or ten times, or late and in another order: what all instances come to is the same
as without, and no guest is started, or started over, once too often."""

import pytest

from harness.cloud import Cloud
from harness.life import Life, bad
from harness.metrics import of_cloud
from harness.wait import until


@pytest.mark.parametrize("faults", ["repeat=2", "repeat=10", "reorder=200", "repeat=10,reorder=200"])
def test_f09_repeated_and_reordered(kind: str, faults: str):
    with bad(kind, faults) as cloud:
        Life(cloud.first_account(), f"F09 {faults}", 60).live()
        # What is counted is told up to a second late.
        if "repeat" in faults:
            until(lambda: dropped(cloud) > 0, "the drops are counted", 20)


def dropped(cloud: Cloud) -> float:
    seen = of_cloud(cloud)
    return sum(seen[f"cumulet_worker_commands_{why}_total"] for why in ("repeated", "stale"))

"""`kill -9` while the very first start makes the database, the keys and the first account: the next one goes on."""

import random
import time

import pytest

from harness.cloud import Cloud
from harness.ec2 import running


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.roles] * (seed < 2)) for seed in range(8)])
def test_killed_while_it_starts_for_the_first_time(seed: int):
    moments = random.Random(seed)
    cloud = Cloud()
    try:
        for _ in range(6):
            cloud.launch()
            time.sleep(moments.uniform(0.0, 0.1))  # the moment of death, not a wait for anything
            cloud.kill()
        cloud.start()
        account = cloud.first_account()
        assert len(account.ec2.describe_images()["Images"]) == 1
        running(account)
        cloud.wait_clean()
    finally:
        cloud.close()

"""F14: the database server restarts or is killed with launches in flight. Writes are answered or refused as 503, reads
are back within ten seconds, and a launch that is asked for again with its token is there once."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from harness import cluster, figures
from harness.cloud import Cloud
from harness.ec2 import instances, run, wait
from harness.wait import until

BACK = 10.0


@pytest.mark.parametrize("fault", ["restart", "kill"])
def test_f14_nothing_is_lost_or_done_twice(cloud: Cloud, fault: str):
    account = cloud.account()
    server = cluster.database(cloud.cluster)
    run(account)

    def launch(number: int) -> tuple[str, ...] | None:
        try:
            return tuple(run(account, ClientToken=f"token-{number}"))
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503, error
            return None

    with ThreadPoolExecutor(16) as pool:
        launches = [pool.submit(launch, number) for number in range(200)]
        until(lambda: sum(done.done() for done in launches) > 20, "some launches", 30, every=0.005)
        if fault == "restart":
            server.restart()
        else:
            server.kill()
            server.start()
        returned = time.monotonic()
        first = [done.result() for done in launches]
    with figures.trial("F14"):
        until(lambda: instances(account.ec2) or True, "reads", BACK, every=0.1)
    assert time.monotonic() - returned < 60

    def again(number: int) -> tuple[str, ...]:
        return until(lambda: launch(number), "an answer", 30, every=0.2)

    with ThreadPoolExecutor(8) as pool:
        second = list(pool.map(again, range(200)))
    assert all(one in (None, other) for one, other in zip(first, second)), "what was answered is there, and is the same"
    there = [i["InstanceId"] for i in instances(account.ec2)]
    assert len(there) == 201, "each is there once"
    wait(account, there, "running", 60)

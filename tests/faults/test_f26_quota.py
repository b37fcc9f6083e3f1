"""F26: a hundred launches at once, where one more instance may be had: one is accepted, by whichever gateway, and the
others are told of the limit."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import figures
from harness.cloud import Cloud
from harness.database import set_quota, used
from harness.ec2 import error_of, instances, running, wait

LIMITS = {"InstanceLimitExceeded": {"instances": 5}, "VcpuLimitExceeded": {"instances": 1000, "vcpus": 11}}


@pytest.mark.parametrize("code", LIMITS)
def test_f26_one_is_accepted_of_a_hundred(doors: Cloud, code: str):
    account = doors.account()
    clients = [doors.client("ec2", account.key, door) for door in doors.doors]
    wanted = {"ImageId": doors.image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
    kept = running(account, 4)  # of two vCPUs each
    set_quota(account, **LIMITS[code])

    def launch(number: int) -> tuple[str, int]:
        return error_of(clients[number % len(clients)].run_instances, **wanted)

    for _ in range(3 * figures.TRIALS):
        with figures.trial("F26 quota race"):
            with ThreadPoolExecutor(100) as pool:
                answers = list(pool.map(launch, range(100)))
            assert answers.count(("ok", 200)) == 1, set(answers)
            assert answers.count((code, 400)) == 99, set(answers)
        assert used(account) == 5
        there = [i["InstanceId"] for i in instances(account.ec2) if i["State"]["Name"] != "terminated"]
        (extra,) = set(there) - set(kept)
        wait(account, [extra], "running")
        account.ec2.terminate_instances(InstanceIds=[extra])
        wait(account, [extra], "terminated")
        assert used(account) == 4, "what ended is given back"

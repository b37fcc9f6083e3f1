"""ClientToken: the same request is done once, another one with the same token is refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.cloud import Account
from harness.ec2 import instances, refused, run, running, wait

pytestmark = pytest.mark.roles


def test_the_same_request_is_done_once(account: Account, ec2):
    launch = {"ImageId": account.cloud.image, "InstanceType": "t3.nano", "MinCount": 2, "MaxCount": 2}
    first = ec2.run_instances(ClientToken="one", **launch)
    again = ec2.run_instances(ClientToken="one", **launch)
    assert first["ReservationId"] == again["ReservationId"] and len(instances(ec2)) == 2
    ids = sorted(i["InstanceId"] for i in first["Instances"])
    assert ids == sorted(i["InstanceId"] for i in again["Instances"])
    assert {i["ClientToken"] for i in instances(ec2)} == {"one"}
    # Also when the instances have ended.
    wait(account, ids, "running")
    ec2.terminate_instances(InstanceIds=ids)
    wait(account, ids, "terminated")
    assert ec2.run_instances(ClientToken="one", **launch)["ReservationId"] == first["ReservationId"]
    assert len(instances(ec2)) == 2


def test_other_parameters_are_refused(account: Account, ec2):
    running(account, ClientToken="one")
    for other in ({"InstanceType": "t3.micro"}, {"count": 2}, {"UserData": "x"}, {"EbsOptimized": False}):
        with refused("IdempotentParameterMismatch"):
            run(account, ClientToken="one", **other)
    assert len(instances(ec2)) == 1


def test_a_token_is_the_accounts_own(account: Account):
    other = account.cloud.account()
    assert run(account, ClientToken="one") != run(other, ClientToken="one")


def test_a_token_has_at_most_64_ascii_characters(account: Account, ec2):
    for bad in ("x" * 65, "tökén"):
        with refused("InvalidParameterValue"):
            run(account, ClientToken=bad)
    run(account, ClientToken="x" * 64)
    assert len(instances(ec2)) == 1


def test_a_refused_launch_leaves_its_token_free(account: Account):
    with refused("InvalidKeyPair.NotFound"):
        run(account, ClientToken="one", KeyName="not yet")
    account.ec2.create_key_pair(KeyName="not yet")
    assert len(run(account, ClientToken="one", KeyName="not yet")) == 1


def test_twenty_at_once_are_one(account: Account, ec2):
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda _: tuple(run(account, ClientToken="race")), range(20)))
    assert len(set(made)) == 1 and len(instances(ec2)) == 1

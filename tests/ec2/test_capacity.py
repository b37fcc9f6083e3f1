"""When it is full: clear reasons, as many as fit, and never one too many however many ask at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.cloud import Account, Cloud
from harness.ec2 import error_of, instances, refused, run, wait
from harness.wait import until

pytestmark = pytest.mark.roles

# One host: room for 16 vCPUs (8 × 2.0) and 12 GiB; public addresses for 254 and no limit there.
SMALL = """
[fake]
vcpus = 8
memory_mib = 12288
[scheduler]
cpu_allocation_ratio = 2.0
ram_allocation_ratio = 1.0
[network]
public_pool = "10.200.0.0/16"
"""


@pytest.fixture(scope="module")
def small_cloud():
    with Cloud("fake", SMALL) as cloud:
        yield cloud


@pytest.fixture
def tenant(small_cloud: Cloud):
    """An account that gives everything back."""
    account = small_cloud.account()
    yield account
    living = [i["InstanceId"] for i in instances(account.ec2) if i["State"]["Name"] not in ("terminated",)]
    if living:
        account.ec2.terminate_instances(InstanceIds=living)
        wait(account, living, "terminated")


def test_what_no_host_could_ever_hold(tenant: Account):
    with refused("InsufficientInstanceCapacity", 500) as caught:
        run(tenant, InstanceType="m5.2xlarge")
    message = str(caught.value)
    assert "32" in message and "us-east-1a" in message, "the message says what is missing, and where"
    assert instances(tenant.ec2) == []


@pytest.mark.one_process
def test_as_many_as_fit(tenant: Account):
    # 512 MiB each: 24 by memory; 2 vCPUs each: 8 by processors.
    made = tenant.ec2.run_instances(ImageId=tenant.cloud.image, InstanceType="t3.nano", MinCount=1, MaxCount=20)
    ids = [i["InstanceId"] for i in made["Instances"]]
    assert len(ids) == 8
    wait(tenant, ids, "running")
    with refused("InsufficientInstanceCapacity", 500, "vCPU"):
        run(tenant)
    tenant.ec2.terminate_instances(InstanceIds=ids[:2])
    wait(tenant, ids[:2], "terminated")
    with refused("InsufficientInstanceCapacity", 500):
        run(tenant, 3)
    assert len(run(tenant, 2)) == 2, "what ended is free again"


def test_fifty_at_once_get_what_there_is(tenant: Account):
    tenant.ec2  # made before the threads

    def one(_) -> str:
        return error_of(tenant.ec2.run_instances, ImageId=tenant.cloud.image, InstanceType="t3.nano", MinCount=1, MaxCount=1)[0]

    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(one, range(50)))
    assert set(outcomes) <= {"ok", "InsufficientInstanceCapacity"}, set(outcomes)
    seen = instances(tenant.ec2)
    ids = [i["InstanceId"] for i in seen]
    assert len(ids) == outcomes.count("ok")

    def settled():
        now = instances(tenant.ec2, ids)
        assert {i["State"]["Name"] for i in now} <= {"running", "terminated"}
        return now

    now = until(settled, "every launch has ended well or with a reason", 60)
    alive = [i for i in now if i["State"]["Name"] == "running"]
    assert len(alive) == 8
    for i in now:
        if i["State"]["Name"] == "terminated":
            assert i["StateReason"]["Code"] == "Server.InsufficientInstanceCapacity" and "vCPU" in i["StateReason"]["Message"]
    tenant.cloud.wait_clean()


def test_the_last_private_addresses(small_cloud: Cloud, tenant: Account):
    """Two launches that want the same address: one gets it."""

    def one(_) -> str:
        return error_of(run, tenant, PrivateIpAddress="172.31.0.50")[0]

    tenant.ec2
    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(one, range(8)))
    assert outcomes == ["InvalidIPAddress.InUse"] * 7 + ["ok"]


def test_public_addresses_run_out():
    with Cloud("fake", '[network]\npublic_pool = "10.201.0.0/28"\n') as cloud:
        # 13 can be given out, and nobody has more than half of them.
        for account, least, code in [
            (cloud.first_account(), 7, "Client.AddressLimitExceeded"),
            (cloud.account(), 6, "Server.InsufficientAddressCapacity"),
        ]:
            ids = run(account, 10)
            wait(account, ids, "running")
            seen = instances(account.ec2, ids)
            addresses = {i["PublicIpAddress"] for i in seen if "PublicIpAddress" in i}
            without = [i for i in seen if "PublicIpAddress" not in i]
            assert (len(addresses), len(without)) == (least, 10 - least)
            assert {i["StateReason"]["Code"] for i in without} == {code}
            # Who asks for one is refused; without it there is room.
            subnet = account.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
            for asked, outcome in [(True, code.split(".")[1]), (False, "ok")]:
                nic = [{"DeviceIndex": 0, "SubnetId": subnet, "AssociatePublicIpAddress": asked}]
                assert error_of(run, account, NetworkInterfaces=nic)[0] == outcome


def test_two_hundred_launches_at_once(fake_cloud: Cloud):
    """Each gets addresses of its own, and all run."""
    account = fake_cloud.account()
    account.ec2
    with ThreadPoolExecutor(20) as pool:
        ids = [id for made in pool.map(lambda _: run(account, 5), range(40)) for id in made]
    wait(account, ids, "running", 180)
    seen = instances(account.ec2)
    assert len(seen) == len({i["PrivateIpAddress"] for i in seen}) == len({i["PublicIpAddress"] for i in seen}) == 200
    assert account.ec2.describe_subnets()["Subnets"][0]["AvailableIpAddressCount"] == 4091 - 200
    account.ec2.terminate_instances(InstanceIds=ids)
    wait(account, ids, "terminated", 180)
    assert account.ec2.describe_subnets()["Subnets"][0]["AvailableIpAddressCount"] == 4091

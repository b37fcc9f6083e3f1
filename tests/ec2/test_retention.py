"""What has ended is forgotten when it has had its time, and nothing that lives is."""

import sqlite3

import pytest
from harness.cloud import Account, Cloud
from harness.ec2 import error_of, filters, instance, instances, refused, run, running, wait
from harness.wait import until

# Seconds. The sweeper looks every second where something is kept so shortly.
SEEN, GOOD = 4, 20
SHORT = f"""
[retention]
terminated_instances = {SEEN}
client_tokens = {GOOD}
operations = {SEEN}
audit_log = {GOOD}
"""
TABLES = ("instances", "reservations", "operations", "client_tokens", "audit_log", "metadata_pushes", "interfaces")


@pytest.fixture(scope="module")
def forgetful():
    with Cloud("fake", SHORT) as cloud:
        yield cloud


@pytest.fixture
def tenant(forgetful: Cloud):
    return forgetful.account()


def rows(cloud: Cloud) -> dict[str, int]:
    """How many rows the tables have."""
    with sqlite3.connect(f"file:{cloud.state}/cumulet.db?mode=ro", uri=True) as database:
        return {table: database.execute(f"select count(*) from {table}").fetchone()[0] for table in TABLES}


def tags(account: Account, id: str) -> list:
    return account.ec2.describe_tags(Filters=filters(resource_id=[id]))["Tags"]


def forgotten(account: Account, id: str) -> bool:
    return error_of(account.ec2.describe_instances, InstanceIds=[id]) == ("InvalidInstanceID.NotFound", 400)


@pytest.mark.one_process
def test_what_has_ended_is_forgotten(tenant: Account):
    cloud, ec2 = tenant.cloud, tenant.ec2
    tagged = [{"ResourceType": "instance", "Tags": [{"Key": "k", "Value": "v"}]}]
    (living,) = running(tenant, TagSpecifications=tagged)
    (id,) = running(tenant, ClientToken="one", TagSpecifications=tagged)
    ec2.terminate_instances(InstanceIds=[id])
    wait(tenant, [id], "terminated")
    assert instance(ec2, id)["StateReason"]["Code"] == "Client.UserInitiatedShutdown" and tags(tenant, id)

    until(lambda: forgotten(tenant, id), f"{id} is forgotten", 3 * SEEN)
    assert [i["InstanceId"] for i in instances(ec2)] == [living]
    until(lambda: not tags(tenant, id), "its tags are gone", 5)
    for call in (ec2.terminate_instances, ec2.start_instances, ec2.describe_instance_status):
        with refused("InvalidInstanceID.NotFound"):
            call(InstanceIds=[id])
    with refused("InvalidInstanceID.NotFound"):
        ec2.create_tags(Resources=[id], Tags=[{"Key": "k", "Value": "v"}])
    # A launch that is sent again is the same one for as long as its token is good.
    assert run(tenant, ClientToken="one", TagSpecifications=tagged) == [id]
    assert cloud.audit()["differences"] == []

    def only_the_living() -> bool:
        living_rows = {"instances": 1, "reservations": 1, "interfaces": 1}
        assert rows(cloud) == dict.fromkeys(TABLES, 0) | living_rows
        return True

    until(only_the_living, "all rows of what has ended are gone", 3 * GOOD)
    cloud.restart()
    assert instance(ec2, living)["State"]["Name"] == "running" and tags(tenant, living)
    # The token can be used again, for another launch.
    (fresh,) = running(tenant, ClientToken="one", TagSpecifications=tagged)
    assert fresh not in (id, living)
    assert cloud.audit()["differences"] == []

"""Requests as euca2ools 3.4 sends them: other signed headers, a made-up region, the version of 2015."""

import hashlib
from datetime import timedelta

import pytest

from harness.cloud import Account
from harness.ec2 import running
from harness.euca2ools import NAMESPACE, SIGNED, VERSION, euca, texts, tree
from harness.signing import Raw, form


@pytest.mark.parametrize("region", ["undefined-123", "undefined-20379", "eucalyptus", "us-east-1"])
def test_any_region(account: Account, raw: Raw, region):
    root = tree(euca(account.cloud, raw, "DescribeRegions", region=region))
    assert root.tag == f"{NAMESPACE}DescribeRegionsResponse" and texts(root, "regionInfo/item/regionName") == ["us-east-1"]


@pytest.mark.parametrize("path", ["/", "/services/compute", "/services/Cloud/", "/services/Eucalyptus"])
def test_paths_of_old_endpoints(account: Account, raw: Raw, path):
    tree(euca(account.cloud, raw, "DescribeAvailabilityZones", path=path))


def test_a_proxy_that_changes_a_signed_header_is_noticed(account: Account, raw: Raw):
    body = form({"Action": "DescribeRegions", "Version": VERSION})
    more = {"Accept": "*/*", "Accept-Encoding": "gzip", "Content-Length": str(len(body)), "X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}
    headers = raw.signer.but(signed=SIGNED).headers(account.cloud.address, body, more=more)
    assert raw.send("POST", "/", headers, body).status == 200
    assert raw.send("POST", "/", headers | {"Accept-Encoding": "identity"}, body).error() == ("AuthFailure", 401)


def test_what_the_tool_dies_without(account: Account, raw: Raw):
    running(account)
    root = tree(euca(account.cloud, raw, "DescribeInstances"))
    reservation = "reservationSet/item"
    instance = f"{reservation}/instancesSet/item"
    for path in (
        f"{reservation}/reservationId", f"{reservation}/groupSet", f"{instance}/launchTime",
        f"{instance}/groupSet/item/groupId", f"{instance}/monitoring/state",
        f"{instance}/networkInterfaceSet/item/privateIpAddressesSet/item/primary",
    ):  # fmt: skip
        assert texts(root, path), path
    association = f"{instance}/networkInterfaceSet/item/association/publicIp"
    inner = f"{instance}/networkInterfaceSet/item/privateIpAddressesSet/item/association/publicIp"
    assert texts(root, association) == texts(root, inner) != []


def test_the_life_of_an_instance(account: Account, raw: Raw):
    cloud = account.cloud
    made = tree(
        euca(
            cloud, raw, "RunInstances", ImageId=cloud.image, InstanceType="m1.small", MinCount="1", MaxCount="1",
            SecurityGroup__1="default", UserData="IyEvYmluL3NoCg==", Monitoring__Enabled="false",
        )
    )  # fmt: skip
    (id,) = texts(made, "instancesSet/item/instanceId")
    for name, more in [
        ("CreateTags", {"ResourceId__1": id, "Tag__1__Key": "Name", "Tag__1__Value": "n"}),
        ("GetConsoleOutput", {"InstanceId": id}),
        ("ModifyInstanceAttribute", {"InstanceId": id, "DisableApiTermination__Value": "false"}),
        ("TerminateInstances", {"InstanceId__1": id}),
    ]:
        tree(euca(cloud, raw, name, **more))


def test_a_network_interface_of_a_launch(account: Account, raw: Raw):
    """`-s` and `--associate-public-ip-address`: everything goes below NetworkInterface.1."""
    subnet = account.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = account.ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    made = tree(
        euca(
            account.cloud, raw, "RunInstances", ImageId=account.cloud.image, MinCount="1", MaxCount="1",
            NetworkInterface__1__DeviceIndex="0", NetworkInterface__1__SubnetId=subnet,
            NetworkInterface__1__SecurityGroupId__1=group, NetworkInterface__1__AssociatePublicIpAddress="false",
            NetworkInterface__1__PrivateIpAddresses__1__PrivateIpAddress="172.31.0.77",
            NetworkInterface__1__PrivateIpAddresses__1__Primary="true", NetworkInterface__1__DeleteOnTermination="true",
        )
    )  # fmt: skip
    assert texts(made, "instancesSet/item/privateIpAddress") == ["172.31.0.77"]
    assert texts(made, "instancesSet/item/ipAddress") == []


def test_instance_types_in_eucalyptus_shape(account: Account, raw: Raw):
    root = tree(euca(account.cloud, raw, "DescribeInstanceTypes", Availability="true"))
    item = "instanceTypeDetails/item"
    names = texts(root, f"{item}/name")
    row = dict(zip(names, zip(texts(root, f"{item}/cpu"), texts(root, f"{item}/memory"))))
    assert row["t3.nano"] == ("2", "512")
    assert set(texts(root, f"{item}/availability/item/zoneName")) == {"us-east-1a"}
    assert all(int(n) >= 0 for n in texts(root, f"{item}/availability/item/available"))


def test_errors(account: Account, raw: Raw):
    answer = euca(account.cloud, raw, "TerminateInstances", InstanceId__1="i-1234")
    assert answer.error() == ("InvalidInstanceID.Malformed", 400)
    assert euca(account.cloud, raw, "MigrateInstances").error() == ("InvalidAction", 400)


def test_sts_and_iam_on_the_same_address(account: Account, raw: Raw):
    for service, name, version in (("sts", "GetCallerIdentity", "2011-06-15"), ("iam", "GetUser", "2010-05-08")):
        body = form({"Action": name, "Version": version})
        signer = raw.signer.but(service=service, region="undefined-7", offset=timedelta(seconds=1))
        answer = raw.send("POST", "/services/Tokens", signer.headers(account.cloud.address, body, path="/services/Tokens"), body)
        assert answer.status == 200 and account.id in answer.text, answer.text

"""DescribeInstanceAttribute and ModifyInstanceAttribute, protection, and the metadata options."""

import base64

import pytest

from harness.cloud import Account
from harness.ec2 import default_group, instance, refused, run, running, wait


@pytest.fixture
def id(account: Account) -> str:
    return running(account, UserData="#!/bin/sh\n")[0]


def stop(account: Account, id: str) -> None:
    account.ec2.stop_instances(InstanceIds=[id])
    wait(account, [id], "stopped")


def attribute(ec2, id: str, name: str) -> dict:
    answer = ec2.describe_instance_attribute(InstanceId=id, Attribute=name)
    assert answer.pop("InstanceId") == id
    answer.pop("ResponseMetadata")
    assert len(answer) == 1, answer
    return next(iter(answer.values()))


def test_every_attribute_can_be_read(ec2, id):
    group = default_group(ec2)
    for name, expected in [
        ("instanceType", {"Value": "t3.nano"}),
        ("userData", {"Value": base64.b64encode(b"#!/bin/sh\n").decode()}),
        ("disableApiTermination", {"Value": False}),
        ("disableApiStop", {"Value": False}),
        ("instanceInitiatedShutdownBehavior", {"Value": "stop"}),
        ("sourceDestCheck", {"Value": True}),
        ("ebsOptimized", {"Value": False}),
        ("enaSupport", {"Value": True}),
        ("groupSet", [{"GroupId": group, "GroupName": "default"}]),
        ("productCodes", []),
    ]:
        assert attribute(ec2, id, name) == expected, name
    assert attribute(ec2, id, "rootDeviceName")["Value"].startswith("/dev/")
    assert attribute(ec2, id, "blockDeviceMapping")[0]["Ebs"]["VolumeId"].startswith("vol-")
    with refused("InvalidParameterValue"):
        ec2.describe_instance_attribute(InstanceId=id, Attribute="colour")


def test_what_changes_only_when_stopped(account: Account, ec2, id):
    for change in ({"InstanceType": {"Value": "t3.micro"}}, {"UserData": {"Value": b"new"}}):
        with refused("IncorrectInstanceState"):
            ec2.modify_instance_attribute(InstanceId=id, **change)
    stop(account, id)
    ec2.modify_instance_attribute(InstanceId=id, InstanceType={"Value": "t3.micro"})
    ec2.modify_instance_attribute(InstanceId=id, UserData={"Value": b"\x00new\xff"})
    assert instance(ec2, id)["InstanceType"] == "t3.micro"
    assert base64.b64decode(attribute(ec2, id, "userData")["Value"]) == b"\x00new\xff"
    with refused("InvalidParameterValue"):
        ec2.modify_instance_attribute(InstanceId=id, InstanceType={"Value": "t9.colossal"})
    # Attribute and Value say the same.
    ec2.modify_instance_attribute(InstanceId=id, Attribute="instanceType", Value="t3.small")
    ec2.start_instances(InstanceIds=[id])
    wait(account, [id], "running")
    assert instance(ec2, id)["InstanceType"] == "t3.small"


def test_protection(account: Account, ec2, id):
    ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": True})
    ec2.modify_instance_attribute(InstanceId=id, DisableApiStop={"Value": True})
    other = run(account)[0]
    with refused("OperationNotPermitted", message=f"The instance '{id}' may not be terminated."):
        ec2.terminate_instances(InstanceIds=[other, id])
    with refused("OperationNotPermitted", message=f"The instance '{id}' may not be stopped. Modify its 'disableApiStop'"):
        ec2.stop_instances(InstanceIds=[id])
    ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": False})
    with refused("OperationNotPermitted", message="may not be terminated. Modify its 'disableApiStop'"):
        ec2.terminate_instances(InstanceIds=[id])
    ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": True})
    assert instance(ec2, other)["State"]["Name"] in ("pending", "running"), "all or none"
    assert attribute(ec2, id, "disableApiTermination") == {"Value": True}
    ec2.modify_instance_attribute(InstanceId=id, DisableApiStop={"Value": False})
    stop(account, id)
    ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[id])


def test_groups_of_a_running_instance(account: Account, ec2, id):
    group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    ec2.modify_instance_attribute(InstanceId=id, Groups=[group])
    assert [g["GroupId"] for g in instance(ec2, id)["SecurityGroups"]] == [group]
    with refused("InvalidGroup.NotFound"):
        ec2.modify_instance_attribute(InstanceId=id, Groups=["sg-00000000000000001"])
    groups = [ec2.create_security_group(GroupName=f"g{n}", Description="d")["GroupId"] for n in range(6)]
    with refused("SecurityGroupsPerInterfaceLimitExceeded"):
        ec2.modify_instance_attribute(InstanceId=id, Groups=groups)


def test_what_is_not_supported_says_so(ec2, id):
    for change in (
        {"SourceDestCheck": {"Value": False}},
        {"EbsOptimized": {"Value": True}},
        {"EnaSupport": {"Value": False}},
        {"Kernel": {"Value": "aki-1"}},
    ):
        with refused("UnsupportedOperation"):
            ec2.modify_instance_attribute(InstanceId=id, **change)
    for harmless in ({"EbsOptimized": {"Value": False}}, {"SourceDestCheck": {"Value": True}}):
        ec2.modify_instance_attribute(InstanceId=id, **harmless)


def test_shutdown_behaviour(account: Account, ec2, id):
    ec2.modify_instance_attribute(InstanceId=id, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
    assert attribute(ec2, id, "instanceInitiatedShutdownBehavior") == {"Value": "terminate"}
    with refused("InvalidParameterValue"):
        ec2.modify_instance_attribute(InstanceId=id, InstanceInitiatedShutdownBehavior={"Value": "explode"})
    # It is about the guest's own power button, not about StopInstances.
    stop(account, id)


@pytest.mark.roles
def test_metadata_options(account: Account, ec2):
    wanted = {"HttpTokens": "required", "HttpPutResponseHopLimit": 3, "HttpEndpoint": "enabled", "InstanceMetadataTags": "enabled"}
    (id,) = running(account, MetadataOptions=wanted)
    seen = instance(ec2, id)["MetadataOptions"]
    assert seen.items() >= wanted.items() and seen["HttpProtocolIpv6"] == "disabled"
    changed = ec2.modify_instance_metadata_options(InstanceId=id, HttpTokens="optional", HttpEndpoint="enabled")
    assert changed["InstanceId"] == id and changed["InstanceMetadataOptions"]["HttpTokens"] == "optional"
    assert changed["InstanceMetadataOptions"]["HttpPutResponseHopLimit"] == 3
    for bad in ({"HttpTokens": "sometimes"}, {"HttpPutResponseHopLimit": 65}, {"HttpPutResponseHopLimit": 0}):
        with refused("InvalidParameterValue"):
            ec2.modify_instance_metadata_options(InstanceId=id, **bad)
    with refused("UnsupportedOperation"):
        ec2.modify_instance_metadata_options(InstanceId=id, HttpProtocolIpv6="enabled")


def test_states_that_do_not_allow_it(account: Account, ec2, id):
    ec2.start_instances(InstanceIds=[id])  # it runs: no error
    stop(account, id)
    ec2.stop_instances(InstanceIds=[id])  # it is stopped: no error
    with refused("IncorrectInstanceState"):
        ec2.reboot_instances(InstanceIds=[id])
    ec2.terminate_instances(InstanceIds=[id])
    wait(account, [id], "terminated")
    for call in (ec2.start_instances, ec2.stop_instances, ec2.reboot_instances):
        with refused("IncorrectInstanceState"):
            call(InstanceIds=[id])

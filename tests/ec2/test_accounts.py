"""Tenancy: what is another account's is not there; who may only read changes nothing; keys end when they are ended."""

import pytest

from harness.cloud import Account, Key
from harness.ec2 import default_group, error_of, instances, refused, run, running
from harness.signing import Raw, action
from harness.wait import until


@pytest.fixture
def theirs(account: Account) -> dict:
    """Another account's resources."""
    other = account.cloud.account()
    (id,) = running(other)
    other.ec2.create_key_pair(KeyName="k", KeyType="ed25519")
    seen = instances(other.ec2)[0]
    rules = other.ec2.describe_security_group_rules()["SecurityGroupRules"]
    return {
        "account": other,
        "instance": id,
        "group": default_group(other.ec2),
        "rule": rules[0]["SecurityGroupRuleId"],
        "subnet": seen["SubnetId"],
        "vpc": seen["VpcId"],
        "key": other.ec2.describe_key_pairs()["KeyPairs"][0]["KeyPairId"],
    }


def test_foreign_ids_are_not_there(account: Account, ec2, theirs):
    before = str(instances(theirs["account"].ec2)), str(theirs["account"].ec2.describe_security_groups())
    id, group = theirs["instance"], theirs["group"]
    rule = [{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    not_there = ("InvalidInstanceID.NotFound", 400)
    for call, arguments in [
        (ec2.describe_instances, {"InstanceIds": [id]}),
        (ec2.describe_instance_status, {"InstanceIds": [id]}),
        (ec2.describe_instance_attribute, {"InstanceId": id, "Attribute": "userData"}),
        (ec2.modify_instance_attribute, {"InstanceId": id, "DisableApiTermination": {"Value": True}}),
        (ec2.modify_instance_metadata_options, {"InstanceId": id, "HttpTokens": "required"}),
        (ec2.start_instances, {"InstanceIds": [id]}),
        (ec2.stop_instances, {"InstanceIds": [id]}),
        (ec2.reboot_instances, {"InstanceIds": [id]}),
        (ec2.terminate_instances, {"InstanceIds": [id]}),
        (ec2.get_console_output, {"InstanceId": id}),
        (ec2.get_console_screenshot, {"InstanceId": id}),
        (ec2.create_tags, {"Resources": [id], "Tags": [{"Key": "a", "Value": "b"}]}),
        (ec2.delete_tags, {"Resources": [id], "Tags": [{"Key": "a"}]}),
    ]:
        assert error_of(call, **arguments) == not_there, call
    for call, arguments in [
        (ec2.describe_security_groups, {"GroupIds": [group]}),
        (ec2.delete_security_group, {"GroupId": group}),
        (ec2.authorize_security_group_ingress, {"GroupId": group, "IpPermissions": rule}),
        (ec2.authorize_security_group_egress, {"GroupId": group, "IpPermissions": rule}),
        (ec2.revoke_security_group_ingress, {"GroupId": group, "IpPermissions": rule}),
    ]:
        assert error_of(call, **arguments) == ("InvalidGroup.NotFound", 400), call
    for call, arguments, code in [
        (ec2.describe_security_group_rules, {"SecurityGroupRuleIds": [theirs["rule"]]}, "InvalidSecurityGroupRuleId.NotFound"),
        (ec2.describe_vpcs, {"VpcIds": [theirs["vpc"]]}, "InvalidVpcID.NotFound"),
        (ec2.describe_subnets, {"SubnetIds": [theirs["subnet"]]}, "InvalidSubnetID.NotFound"),
        (ec2.describe_key_pairs, {"KeyPairIds": [theirs["key"]]}, "InvalidKeyPair.NotFound"),
        (ec2.create_security_group, {"GroupName": "g", "Description": "d", "VpcId": theirs["vpc"]}, "InvalidVpcID.NotFound"),
    ]:  # fmt: skip
        assert error_of(call, **arguments) == (code, 400), call
    for more, code in [
        ({"SubnetId": theirs["subnet"]}, "InvalidSubnetID.NotFound"),
        ({"SecurityGroupIds": [group]}, "InvalidGroup.NotFound"),
        ({"KeyName": "k"}, "InvalidKeyPair.NotFound"),
    ]:
        with refused(code):
            run(account, **more)
    ec2.delete_key_pair(KeyPairId=theirs["key"])
    after = str(instances(theirs["account"].ec2)), str(theirs["account"].ec2.describe_security_groups())
    assert len(theirs["account"].ec2.describe_key_pairs()["KeyPairs"]) == 1
    assert [t.split("'RequestId'")[0] for t in before] == [t.split("'RequestId'")[0] for t in after]


def test_lists_hold_only_ones_own(account: Account, ec2, theirs):
    assert instances(ec2) == [] and ec2.describe_instance_status(IncludeAllInstances=True)["InstanceStatuses"] == []
    assert ec2.describe_key_pairs()["KeyPairs"] == [] and ec2.describe_tags()["Tags"] == []
    for rows in (
        ec2.describe_security_groups()["SecurityGroups"], ec2.describe_vpcs()["Vpcs"], ec2.describe_subnets()["Subnets"]
    ):  # fmt: skip
        assert {row["OwnerId"] for row in rows} == {account.id}


def test_some_missing_are_all_missing(account: Account, ec2, theirs):
    (mine,) = run(account)
    unknown = ["i-00000000000000001", theirs["instance"]]
    with refused("InvalidInstanceID.NotFound") as caught:
        ec2.terminate_instances(InstanceIds=[mine, *unknown])
    assert all(id in str(caught.value) for id in unknown) and mine not in str(caught.value)
    assert instances(ec2)[0]["State"]["Name"] != "shutting-down"


def test_who_may_only_read(account: Account):
    reader = account.cloud.client("ec2", account.user("reader", read_only=True))
    (id,) = run(account)
    assert len(instances(reader)) == 1
    for call, arguments in [
        (reader.terminate_instances, {"InstanceIds": [id]}),
        (reader.stop_instances, {"InstanceIds": [id]}),
        (reader.create_tags, {"Resources": [id], "Tags": [{"Key": "a", "Value": "b"}]}),
        (reader.create_key_pair, {"KeyName": "k"}),
        (reader.create_security_group, {"GroupName": "g", "Description": "d"}),
        (reader.run_instances, {"ImageId": account.cloud.image, "MinCount": 1, "MaxCount": 1}),
        # Not even whether it is there.
        (reader.terminate_instances, {"InstanceIds": ["i-00000000000000001"]}),
    ]:
        assert error_of(call, **arguments) == ("UnauthorizedOperation", 403), call
    assert len(instances(account.ec2)) == 1 and account.ec2.describe_key_pairs()["KeyPairs"] == []


@pytest.mark.roles
def test_an_operators_command_ends_a_key(account: Account):
    key = account.user("worker")
    client = account.cloud.client("ec2", key)
    client.describe_regions()
    for command, expected in [
        ("disable", ("AuthFailure", 401)),
        ("enable", ("ok", 200)),
        ("delete", ("AuthFailure", 401)),
    ]:
        account.cloud.run("access-key", command, key.id)
        # Another process has changed it: the cloud looks every second.
        until(lambda: error_of(client.describe_regions) == expected, command, timeout=20)


def test_unknown_keys_and_wrong_secrets_look_alike(account: Account):
    answers = set()
    for key in (Key("AKIAIOSFODNN7EXAMPLE", "x" * 40), Key(account.key.id, "x" * 40)):
        answer = Raw(account.cloud, key).post(action("DescribeRegions"))
        answers.add((answer.code, answer.message))
    assert answers == {("AuthFailure", "AWS was not able to validate the provided access credentials")}

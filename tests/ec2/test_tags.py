"""Tags: on anything, for many resources at once or for none, kept as they are written."""

import pytest

from harness.cloud import Account
from harness.ec2 import default_group, filters, instance, refused, run, running, wait


def tags_of(ec2, id: str) -> dict[str, str]:
    found = ec2.describe_tags(Filters=filters(resource_id=[id]))["Tags"]
    assert {t["ResourceId"] for t in found} <= {id}
    return {t["Key"]: t["Value"] for t in found}


@pytest.mark.roles
def test_tags_of_every_kind_of_resource(account: Account, ec2):
    key = ec2.create_key_pair(KeyName="k")["KeyPairId"]
    group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    rule = ec2.describe_security_group_rules(Filters=filters(group_id=[group]))["SecurityGroupRules"][0]
    (id,) = run(account)
    seen = instance(ec2, id)
    resources = {
        "instance": id,
        "key-pair": key,
        "security-group": group,
        "security-group-rule": rule["SecurityGroupRuleId"],
        "subnet": seen["SubnetId"],
        "vpc": seen["VpcId"],
        "network-interface": seen["NetworkInterfaces"][0]["NetworkInterfaceId"],
        "volume": seen["BlockDeviceMappings"][0]["Ebs"]["VolumeId"],
    }
    ec2.create_tags(Resources=list(resources.values()), Tags=[{"Key": "owner", "Value": "me"}, {"Key": "empty", "Value": ""}])
    found = ec2.describe_tags(Filters=filters(key=["owner"]))["Tags"]
    assert {t["ResourceType"]: t["ResourceId"] for t in found} == resources
    expected = [{"Key": "empty", "Value": ""}, {"Key": "owner", "Value": "me"}]
    for described in (
        instance(ec2, id),
        ec2.describe_key_pairs()["KeyPairs"][0],
        ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0],
        ec2.describe_vpcs()["Vpcs"][0],
        ec2.describe_subnets()["Subnets"][0],
    ):
        assert sorted(described["Tags"], key=lambda t: t["Key"]) == expected
    ec2.create_tags(Resources=[id], Tags=[{"Key": "owner", "Value": "you"}])
    assert tags_of(ec2, id) == {"owner": "you", "empty": ""} and tags_of(ec2, group)["owner"] == "me"


def test_delete_by_key_by_value_and_all(account: Account, ec2):
    group = default_group(ec2)
    given = {"a": "1", "b": "", "c": "3", "d": "4"}
    ec2.create_tags(Resources=[group], Tags=[{"Key": k, "Value": v} for k, v in given.items()])
    ec2.delete_tags(Resources=[group], Tags=[{"Key": "a"}, {"Key": "never"}])
    ec2.delete_tags(Resources=[group], Tags=[{"Key": "c", "Value": "not this"}, {"Key": "d", "Value": "4"}])
    assert tags_of(ec2, group) == {"b": "", "c": "3"}
    ec2.delete_tags(Resources=[group], Tags=[{"Key": "c", "Value": ""}])
    assert tags_of(ec2, group) == {"b": "", "c": "3"}, "an empty value is a value"
    ec2.delete_tags(Resources=[group])
    assert tags_of(ec2, group) == {}


@pytest.mark.parametrize(
    "value", ["True", "0123", "1e3", "None", "a=b&c", "<b>&amp;\"'", " spaces ", "日本語 ünï 🦀", "%2F+", "x" * 256]
)
def test_values_are_kept_as_they_are(account: Account, ec2, value):
    group = default_group(ec2)
    ec2.create_tags(Resources=[group], Tags=[{"Key": value[:128].strip(), "Value": value}])
    assert tags_of(ec2, group) == {value[:128].strip(): value}
    assert account.cloud.client("ec2", account.key).describe_security_groups()["SecurityGroups"][0]["Tags"][0]["Value"] == value


def test_all_resources_or_none(account: Account, ec2):
    group = default_group(ec2)
    with refused("InvalidInstanceID.NotFound"):
        ec2.create_tags(Resources=[group, "i-00000000000000001"], Tags=[{"Key": "a", "Value": "b"}])
    assert tags_of(ec2, group) == {}
    stranger = default_group(account.cloud.account().ec2)
    with refused("InvalidGroup.NotFound"):
        ec2.create_tags(Resources=[group, stranger], Tags=[{"Key": "a", "Value": "b"}])
    with refused("InvalidGroup.NotFound"):
        ec2.delete_tags(Resources=[stranger], Tags=[{"Key": "a"}])
    assert tags_of(ec2, group) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("", "v"), ("k" * 129, "v"), ("k", "v" * 257), ("aws:mine", "v"), ("AWS:mine", "v"), ("a\x07", "v"), ("a", "b\x1b")],
)
def test_what_a_tag_may_not_be(ec2, key, value):
    group = default_group(ec2)
    with refused("MissingParameter" if not key else "InvalidParameterValue"):
        ec2.create_tags(Resources=[group], Tags=[{"Key": key, "Value": value}])
    assert tags_of(ec2, group) == {}


def test_fifty_tags(ec2):
    group = default_group(ec2)
    ec2.create_tags(Resources=[group], Tags=[{"Key": f"k{n}", "Value": ""} for n in range(50)])
    with refused("TagLimitExceeded"):
        ec2.create_tags(Resources=[group], Tags=[{"Key": "one more", "Value": ""}])
    ec2.create_tags(Resources=[group], Tags=[{"Key": "k0", "Value": "changed"}])
    assert len(tags_of(ec2, group)) == 50 and tags_of(ec2, group)["k0"] == "changed"


def test_tags_with_the_creation(account: Account, ec2):
    def spec(kind: str) -> list[dict]:
        return [{"ResourceType": kind, "Tags": [{"Key": "for", "Value": kind}]}]

    key = ec2.create_key_pair(KeyName="k", TagSpecifications=spec("key-pair"))
    assert key["Tags"] == [{"Key": "for", "Value": "key-pair"}]
    group = ec2.create_security_group(GroupName="g", Description="d", TagSpecifications=spec("security-group"))
    assert group["Tags"] == [{"Key": "for", "Value": "security-group"}]
    kinds = ("instance", "volume", "network-interface")
    (id,) = run(account, TagSpecifications=[s for kind in kinds for s in spec(kind)])
    seen = instance(ec2, id)
    assert seen["Tags"] == [{"Key": "for", "Value": "instance"}]
    assert tags_of(ec2, seen["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]) == {"for": "volume"}
    assert tags_of(ec2, seen["NetworkInterfaces"][0]["NetworkInterfaceId"]) == {"for": "network-interface"}
    for wrong in ("security-group", "no-such-thing"):
        with refused("InvalidParameterValue"):
            run(account, TagSpecifications=spec(wrong))


def test_tags_of_what_has_ended(account: Account, ec2):
    (id,) = running(account, TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}])
    nic = instance(ec2, id)["NetworkInterfaces"][0]["NetworkInterfaceId"]
    ec2.create_tags(Resources=[nic], Tags=[{"Key": "a", "Value": "b"}])
    ec2.terminate_instances(InstanceIds=[id])
    wait(account, [id], "terminated")
    assert instance(ec2, id)["Tags"] == [{"Key": "a", "Value": "b"}]
    assert tags_of(ec2, nic) == {}

"""DryRun on every operation that has it: checks everything, changes nothing."""

import pytest

from harness.cloud import Account
from harness.ec2 import error_of, instances, run, running

DONE = ("DryRunOperation", 412)


@pytest.fixture
def world(account: Account):
    """One of everything."""
    ec2 = account.ec2
    group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    ec2.create_key_pair(KeyName="k")
    ec2.create_placement_group(GroupName="p", Strategy="spread")
    (id,) = running(account)
    return {"instance": id, "group": group}


def calls(account: Account, world: dict) -> dict[str, dict]:
    """Every operation with arguments that would do something."""
    id, group = world["instance"], world["group"]
    rule = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB3X0m4Cvx0F2Oa6KBlbFZOcRQmCUzhcQGhwLbXqVsRC x"
    launch = {"ImageId": account.cloud.image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
    return {
        "run_instances": launch,
        "start_instances": {"InstanceIds": [id]},
        "stop_instances": {"InstanceIds": [id]},
        "reboot_instances": {"InstanceIds": [id]},
        "terminate_instances": {"InstanceIds": [id]},
        "modify_instance_attribute": {"InstanceId": id, "DisableApiTermination": {"Value": True}},
        "modify_instance_metadata_options": {"InstanceId": id, "HttpTokens": "required"},
        "create_key_pair": {"KeyName": "new"},
        "import_key_pair": {"KeyName": "new", "PublicKeyMaterial": public.encode()},
        "delete_key_pair": {"KeyName": "k"},
        "create_placement_group": {"GroupName": "new", "Strategy": "cluster"},
        "delete_placement_group": {"GroupName": "p"},
        "create_security_group": {"GroupName": "new", "Description": "d"},
        "delete_security_group": {"GroupId": group},
        "authorize_security_group_ingress": {"GroupId": group, "IpPermissions": rule},
        "authorize_security_group_egress": {"GroupId": group, "IpPermissions": rule},
        "revoke_security_group_egress": {"GroupId": group, "IpPermissions": everything},
        "create_tags": {"Resources": [id], "Tags": [{"Key": "a", "Value": "b"}]},
        "delete_tags": {"Resources": [id], "Tags": [{"Key": "a"}]},
        "describe_instances": {},
        "describe_instance_status": {},
        "describe_instance_attribute": {"InstanceId": id, "Attribute": "userData"},
        "describe_images": {},
        "describe_instance_types": {},
        "describe_instance_type_offerings": {},
        "describe_key_pairs": {},
        "describe_network_interfaces": {},
        "describe_placement_groups": {},
        "describe_regions": {},
        "describe_availability_zones": {},
        "describe_account_attributes": {},
        "describe_security_groups": {},
        "describe_security_group_rules": {},
        "describe_subnets": {},
        "describe_vpcs": {},
        "describe_tags": {},
        "get_console_output": {"InstanceId": id},
        "get_console_screenshot": {"InstanceId": id},
    }


def snapshot(ec2) -> list:
    seen = [
        ec2.describe_security_groups()["SecurityGroups"],
        ec2.describe_security_group_rules()["SecurityGroupRules"],
        ec2.describe_key_pairs()["KeyPairs"],
        ec2.describe_placement_groups()["PlacementGroups"],
        ec2.describe_tags()["Tags"],
        instances(ec2),
    ]
    return [sorted(map(str, rows)) for rows in seen]


def test_nothing_changes(account: Account, ec2, world):
    before = snapshot(ec2)
    for name, arguments in calls(account, world).items():
        assert error_of(getattr(ec2, name), DryRun=True, **arguments) == DONE, name
    assert snapshot(ec2) == before
    assert ec2.describe_subnets()["Subnets"][0]["AvailableIpAddressCount"] == 4090


def test_everything_is_checked(account: Account, ec2, world):
    for name, arguments, code in [
        ("terminate_instances", {"InstanceIds": ["i-00000000000000001"]}, "InvalidInstanceID.NotFound"),
        ("start_instances", {"InstanceIds": ["i-zz"]}, "InvalidInstanceID.Malformed"),
        ("create_security_group", {"GroupName": "g", "Description": "d"}, "InvalidGroup.Duplicate"),
        ("create_key_pair", {"KeyName": "k"}, "InvalidKeyPair.Duplicate"),
        (
            "run_instances",
            {"ImageId": "ami-00000000000000001", "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1},
            "InvalidAMIID.NotFound",
        ),
        (
            "run_instances",
            {"ImageId": account.cloud.image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1, "KeyName": "?"},
            "InvalidKeyPair.NotFound",
        ),
    ]:
        assert error_of(getattr(ec2, name), DryRun=True, **arguments) == (code, 400), name


def test_who_may_not_is_told_so(account: Account, world):
    reader = account.cloud.client("ec2", account.user("reader", read_only=True))
    for name, arguments in calls(account, world).items():
        reads = name.startswith(("describe_", "get_"))
        expected = DONE if reads else ("UnauthorizedOperation", 403)
        assert error_of(getattr(reader, name), DryRun=True, **arguments) == expected, name


def test_a_rehearsal_does_not_use_up_the_client_token(account: Account, ec2):
    launch = {"ImageId": account.cloud.image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
    assert error_of(ec2.run_instances, DryRun=True, ClientToken="t", **launch) == DONE
    assert len(run(account, ClientToken="t")) == 1 == len(instances(ec2))

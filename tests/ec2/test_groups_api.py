"""Security groups as the API has them: groups, rules with ids of their own, references, limits."""

import pytest

from harness.cloud import Account
from harness.ec2 import default_group, filters, instance, refused, run, running, wait


@pytest.fixture
def group(ec2) -> str:
    return ec2.create_security_group(GroupName="g", Description="a group")["GroupId"]


def tcp(port: int, cidr: str = "10.0.0.0/8", **more) -> dict:
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": cidr} | more]}


def ingress(ec2, group: str) -> list[dict]:
    return ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]


def test_a_new_group_lets_everything_out_and_nothing_in(account: Account, ec2, group):
    (seen,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert (seen["GroupName"], seen["Description"], seen["OwnerId"]) == ("g", "a group", account.id)
    assert seen["IpPermissions"] == []
    (out,) = seen["IpPermissionsEgress"]
    assert out["IpProtocol"] == "-1" and out["IpRanges"] == [{"CidrIp": "0.0.0.0/0"}] and "FromPort" not in out


def test_rules_come_and_go(ec2, group):
    made = ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[tcp(22, Description="ssh"), tcp(80, "0.0.0.0/0")]
    )
    assert made["Return"] and len(made["SecurityGroupRules"]) == 2
    ssh = next(r for r in made["SecurityGroupRules"] if r["FromPort"] == 22)
    assert ssh["SecurityGroupRuleId"].startswith("sgr-0") and ssh["Description"] == "ssh" and not ssh["IsEgress"]
    with refused("InvalidPermission.Duplicate"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(443), tcp(22)])
    assert sorted(p["FromPort"] for p in ingress(ec2, group)) == [22, 80], "all rules or none"
    # A description is not part of what a rule is.
    with refused("InvalidPermission.Duplicate"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(22, Description="other")])
    ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[ssh["SecurityGroupRuleId"]])
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[tcp(80, "0.0.0.0/0")])
    assert ingress(ec2, group) == []
    # In the default VPC this is no error, and told.
    again = ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[tcp(80, "0.0.0.0/0")])
    (unknown,) = again["UnknownIpPermissions"]
    assert again["Return"] and unknown["IpRanges"] == [{"CidrIp": "0.0.0.0/0"}]
    with refused("InvalidSecurityGroupRuleId.NotFound"):
        ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[ssh["SecurityGroupRuleId"]])


def test_the_short_form(ec2, group):
    ec2.authorize_security_group_ingress(
        GroupName="g", IpProtocol="tcp", FromPort=8000, ToPort=8010, CidrIp="192.0.2.0/24"
    )
    (seen,) = ingress(ec2, group)
    assert (seen["FromPort"], seen["ToPort"], seen["IpRanges"]) == (8000, 8010, [{"CidrIp": "192.0.2.0/24"}])
    ec2.revoke_security_group_ingress(GroupName="g", IpProtocol="tcp", FromPort=8000, ToPort=8010, CidrIp="192.0.2.0/24")
    assert ingress(ec2, group) == []


def test_protocols(ec2, group):
    for rule, shown in [
        ({"IpProtocol": "udp", "FromPort": 53, "ToPort": 53}, ("udp", 53, 53)),
        ({"IpProtocol": "17", "FromPort": 54, "ToPort": 54}, ("udp", 54, 54)),
        ({"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1}, ("icmp", -1, -1)),
        ({"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1}, ("icmp", 8, -1)),
        ({"IpProtocol": "-1"}, ("-1", None, None)),
        ({"IpProtocol": "-1", "FromPort": 0, "ToPort": 65535, "IpRanges": [{"CidrIp": "10.2.0.0/16"}]}, ("-1", None, None)),
    ]:
        permission = {"IpRanges": [{"CidrIp": "10.1.0.0/16"}]} | rule
        made = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
        (row,) = made["SecurityGroupRules"]
        seen = [p for p in ingress(ec2, group) if (p["IpProtocol"], p.get("FromPort"), p.get("ToPort")) == shown]
        assert row["IpProtocol"] == shown[0] and len(seen) == 1, (rule, ingress(ec2, group))


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (tcp(70000), "InvalidParameterValue"),
        (tcp(-2), "InvalidParameterValue"),
        ({"IpProtocol": "tcp", "FromPort": 10, "ToPort": 5, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, "InvalidParameterValue"),
        (tcp(22, "10.0.0.0"), "InvalidParameterValue"),
        (tcp(22, "10.0.0.0/33"), "InvalidParameterValue"),
        (tcp(22, "300.0.0.0/8"), "InvalidParameterValue"),
        ({"IpProtocol": "carrier-pigeon", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, "InvalidParameterValue"),
        ({"IpProtocol": "256", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, "InvalidParameterValue"),
        ({"IpProtocol": "tcp", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, "InvalidParameterValue"),
        (tcp(22, Description="tab\there"), "InvalidParameterValue"),
        ({"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "PrefixListIds": [{"PrefixListId": "pl-1"}]}, "UnsupportedOperation"),
        ({"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": "sg-00000000000000001"}]}, "InvalidGroup.NotFound"),
    ],
)  # fmt: skip
def test_rules_that_are_none(ec2, group, rule, code):
    with refused(code):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    assert ingress(ec2, group) == []


@pytest.mark.roles
def test_groups_that_refer_to_each_other(account: Account, ec2, group):
    other = ec2.create_security_group(GroupName="other", Description="d")["GroupId"]
    pair = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": other}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[pair])
    (seen,) = ingress(ec2, group)
    assert seen["UserIdGroupPairs"] == [{"UserId": account.id, "GroupId": other}]
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=other)
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[pair])
    assert ec2.delete_security_group(GroupId=other)["GroupId"] == other


def test_egress(ec2, group):
    everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[everything])
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[tcp(443, "0.0.0.0/0")])
    (seen,) = ec2.describe_security_group_rules(Filters=filters(group_id=[group]))["SecurityGroupRules"]
    assert seen["IsEgress"] and seen["CidrIpv4"] == "0.0.0.0/0" and (seen["FromPort"], seen["ToPort"]) == (443, 443)


@pytest.mark.roles
def test_a_group_in_use_stays(account: Account, ec2, group):
    (id,) = running(account, SecurityGroupIds=[group])
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    ec2.terminate_instances(InstanceIds=[id])
    wait(account, [id], "terminated")
    ec2.delete_security_group(GroupId=group)
    with refused("InvalidGroup.NotFound"):
        ec2.describe_security_groups(GroupIds=[group])


def test_names_and_the_default_group(account: Account, ec2, group):
    with refused("InvalidGroup.Duplicate"):
        ec2.create_security_group(GroupName="g", Description="again")
    for name in ("sg-mine", "default", "x" * 256, "tab\t", "né"):
        with refused("InvalidParameterValue"):
            ec2.create_security_group(GroupName=name, Description="d")
    with refused("CannotDelete"):
        ec2.delete_security_group(GroupId=default_group(ec2))
    (id,) = run(account, SecurityGroups=["g", "default"])
    assert {g["GroupName"] for g in instance(ec2, id)["SecurityGroups"]} == {"g", "default"}
    with refused("InvalidGroup.NotFound"):
        run(account, SecurityGroups=["nobody"])


def test_limits(ec2, group):
    rules = [tcp(port) for port in range(1000, 1060)]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules)
    with refused("RulesPerSecurityGroupLimitExceeded"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(2000)])
    assert len(ingress(ec2, group)) == 60

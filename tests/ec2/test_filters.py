"""Filters: values are alternatives, filters add up, wildcards and escapes as documented, unknown names refused."""

import pytest

from harness.cloud import Account
from harness.ec2 import filters, instance, instances, refused, running, wait


@pytest.fixture
def fleet(account: Account):
    """Three instances: web-1 (running), web-2 (stopped) and `50%*`, each with other tags."""
    ids = running(account, 3)
    for id, name in zip(ids, ("web-1", "web-2", "50%*")):
        account.ec2.create_tags(Resources=[id], Tags=[{"Key": "Name", "Value": name}, {"Key": f"only:{name}", "Value": ""}])
    account.ec2.stop_instances(InstanceIds=ids[1:2])
    wait(account, ids[1:2], "stopped")
    return dict(zip(("web-1", "web-2", "star"), ids))


def names(ec2, fleet: dict, wanted: list[dict]) -> set[str]:
    found = {i["InstanceId"] for i in instances(ec2, Filters=wanted)}
    return {name for name, id in fleet.items() if id in found}


def test_instances_by_many_filters(account: Account, ec2, fleet):
    one = instance(ec2, fleet["web-1"])
    for wanted, expected in [
        (filters(instance_state_name=["running"]), {"web-1", "star"}),
        (filters(instance_state_name=["running", "stopped"]), {"web-1", "web-2", "star"}),
        (filters(instance_state_code=["80"]), {"web-2"}),
        (filters(instance_id=[fleet["web-1"], fleet["star"]]), {"web-1", "star"}),
        (filters(private_ip_address=[one["PrivateIpAddress"]]), {"web-1"}),
        (filters(ip_address=[one["PublicIpAddress"]]), {"web-1"}),
        (filters(reservation_id=["r-*"]), {"web-1", "web-2", "star"}),
        (filters(launch_index=["1"]), {"web-2"}),
        (filters(instance_type=["t3.*"]), {"web-1", "web-2", "star"}),
        (filters(instance_type=["t3"]), set()),
        (filters(vpc_id=[one["VpcId"]], subnet_id=[one["SubnetId"]]), {"web-1", "web-2", "star"}),
        (filters(availability_zone=["us-east-1?"]), {"web-1", "web-2", "star"}),
        (filters(image_id=[account.cloud.image], owner_id=[account.id]), {"web-1", "web-2", "star"}),
        (filters(dns_name=[one["PublicDnsName"]]), {"web-1"}),
        ([{"Name": "instance.group-name", "Values": ["default"]}], {"web-1", "web-2", "star"}),
        ([{"Name": "network-interface.mac-address", "Values": [one["NetworkInterfaces"][0]["MacAddress"]]}], {"web-1"}),
        ([{"Name": "metadata-options.http-tokens", "Values": ["required"]}], set()),
        ([{"Name": "block-device-mapping.device-name", "Values": ["/dev/*"]}], {"web-1", "web-2", "star"}),
        (filters(instance_state_name=["running"], launch_index=["0", "1"]), {"web-1"}),
        (filters(state_reason_code=["Client.UserInitiatedShutdown"]), {"web-2"}),
    ]:
        assert names(ec2, fleet, wanted) == expected, wanted


def test_tags_wildcards_and_escapes(ec2, fleet):
    def tag(value: str, key: str = "Name") -> list[dict]:
        return [{"Name": f"tag:{key}", "Values": [value]}]

    for wanted, expected in [
        (tag("web-1"), {"web-1"}),
        (tag("web-*"), {"web-1", "web-2"}),
        (tag("WEB-*"), set()),
        (tag("web-?"), {"web-1", "web-2"}),
        (tag("web?"), set()),
        (tag("*"), {"web-1", "web-2", "star"}),
        (tag("50%\\*"), {"star"}),
        (tag("web-\\*"), set()),
        (tag("50_*"), set()),
        (tag("5?%*"), {"star"}),
        (tag("", "only:web-1"), {"web-1"}),
        (tag("*", "only:web-2"), {"web-2"}),
        (tag("*", "only:*"), set()),
        (filters(tag_key=["only:*"]), {"web-1", "web-2", "star"}),
        (filters(tag_key=["only:web-2"]), {"web-2"}),
        (filters(tag_key=["only:web-1", "only:web-2"], launch_index=["1"]), {"web-2"}),
    ]:
        assert names(ec2, fleet, wanted) == expected, wanted


def test_tags_of_interfaces(account: Account, ec2, fleet):
    nic = instance(ec2, fleet["web-2"])["NetworkInterfaces"][0]["NetworkInterfaceId"]
    ec2.create_tags(Resources=[nic], Tags=[{"Key": "side", "Value": "out*"}])
    spec = [{"ResourceType": "network-interface", "Tags": [{"Key": "side", "Value": "in"}]}]
    (late,) = running(account, TagSpecifications=spec)
    fleet = fleet | {"late": late}
    for name, value, expected in [
        ("network-interface.tag-key", "side", {"web-2", "late"}),
        ("network-interface.tag-key", "Name", set()),
        ("network-interface.tag-value", "in", {"late"}),
        ("network-interface.tag-value", "out\\*", {"web-2"}),
        ("tag-key", "side", set()),
    ]:
        assert names(ec2, fleet, [{"Name": name, "Values": [value]}]) == expected, (name, value)
    ec2.delete_tags(Resources=[nic])
    assert names(ec2, fleet, [{"Name": "network-interface.tag-key", "Values": ["side"]}]) == {"late"}


def test_a_filter_without_a_match_is_an_empty_list_and_an_unknown_one_an_error(ec2):
    assert ec2.describe_instances(Filters=filters(instance_id=["i-00000000000000001"]))["Reservations"] == []
    assert ec2.describe_images(Filters=filters(name=["nothing of the kind"]))["Images"] == []
    with refused("InvalidParameterValue", message="The filter 'no-such-filter' is invalid"):
        ec2.describe_images(Filters=filters(no_such_filter=["x"]))


def test_other_resources(account: Account, ec2):
    group = ec2.create_security_group(GroupName="db", Description="databases")["GroupId"]
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    for call, key, wanted, expected in [
        (ec2.describe_security_groups, "SecurityGroups", filters(group_name=["db"], vpc_id=[vpc]), 1),
        (ec2.describe_security_groups, "SecurityGroups", filters(description=["data*"]), 1),
        (ec2.describe_security_groups, "SecurityGroups", [{"Name": "egress.ip-permission.cidr", "Values": ["0.0.0.0/0"]}], 2),
        (ec2.describe_security_groups, "SecurityGroups", [{"Name": "ip-permission.group-name", "Values": ["default"]}], 1),
        (ec2.describe_security_group_rules, "SecurityGroupRules", filters(group_id=[group]), 1),
        (ec2.describe_vpcs, "Vpcs", filters(is_default=["true"]), 1),
        (ec2.describe_vpcs, "Vpcs", [{"Name": "isDefault", "Values": ["true"]}], 1),
        (ec2.describe_vpcs, "Vpcs", filters(cidr=["172.31.0.0/16"], state=["available"]), 1),
        (ec2.describe_subnets, "Subnets", filters(default_for_az=["true"], vpc_id=[vpc]), 1),
        (ec2.describe_subnets, "Subnets", [{"Name": "availabilityZone", "Values": ["us-east-1a"]}], 1),
        (ec2.describe_subnets, "Subnets", filters(availability_zone=["us-east-1b"]), 0),
        (ec2.describe_images, "Images", filters(name=["cumulet-*"], state=["available"], architecture=["x86_64"]), 1),
        (ec2.describe_images, "Images", filters(root_device_type=["instance-store"]), 0),
        (ec2.describe_regions, "Regions", filters(region_name=["us-*"]), 1),
        (ec2.describe_availability_zones, "AvailabilityZones", filters(zone_name=["us-east-1a"], state=["available"]), 1),
        (ec2.describe_instance_types, "InstanceTypes", [{"Name": "memory-info.size-in-mib", "Values": ["512"]}, *filters(instance_type=["t3.*"])], 1),
    ]:  # fmt: skip
        assert len(call(Filters=wanted)[key]) == expected, wanted

"""What a new cloud shows: regions, zones, types, the default network, the tiny image; and an instance in full."""

import re

import pytest

from harness.cloud import Account
from harness.ec2 import instance, instances, refused, run, running, wait

LONG_ID = re.compile(r"[a-z]+-0[0-9a-f]{16}")


def test_regions_and_zones(ec2):
    (region,) = ec2.describe_regions()["Regions"]
    assert region["RegionName"] == "us-east-1" and region["OptInStatus"] == "opt-in-not-required"
    assert region["Endpoint"]
    (zone,) = ec2.describe_availability_zones()["AvailabilityZones"]
    assert (zone["ZoneName"], zone["ZoneId"], zone["State"]) == ("us-east-1a", "use1-az1", "available")
    assert zone["RegionName"] == "us-east-1"
    with refused("InvalidParameterValue", message="mars-1"):
        ec2.describe_regions(RegionNames=["mars-1"])


def test_account_attributes(ec2):
    found = {a["AttributeName"]: a["AttributeValues"] for a in ec2.describe_account_attributes()["AccountAttributes"]}
    assert found["supported-platforms"] == [{"AttributeValue": "VPC"}]
    assert found["default-vpc"][0]["AttributeValue"].startswith("vpc-")
    assert int(found["max-instances"][0]["AttributeValue"]) > 0


def test_instance_types_are_data(ec2):
    found = ec2.describe_instance_types(InstanceTypes=["t3.nano", "m5.2xlarge"])["InstanceTypes"]
    sizes = {t["InstanceType"]: (t["VCpuInfo"]["DefaultVCpus"], t["MemoryInfo"]["SizeInMiB"]) for t in found}
    assert sizes == {"t3.nano": (2, 512), "m5.2xlarge": (8, 32768)}
    assert len(ec2.describe_instance_types()["InstanceTypes"]) >= 40
    with refused("InvalidInstanceType", message="[t9.colossal, t9.minute]"):
        ec2.describe_instance_types(InstanceTypes=["t9.colossal", "t3.nano", "t9.minute"])
    filters = [{"Name": "instance-type", "Values": ["t3.*"]}]
    offered = ec2.describe_instance_type_offerings(Filters=filters, LocationType="availability-zone")
    offered = offered["InstanceTypeOfferings"]
    assert {o["Location"] for o in offered} == {"us-east-1a"}
    assert "t3.nano" in {o["InstanceType"] for o in offered} and all(o["InstanceType"][:3] == "t3." for o in offered)


def test_the_default_network(ec2):
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    assert vpc["IsDefault"] and vpc["CidrBlock"] == "172.31.0.0/16" and vpc["State"] == "available"
    (subnet,) = ec2.describe_subnets()["Subnets"]
    assert subnet["DefaultForAz"] and subnet["MapPublicIpOnLaunch"] and subnet["VpcId"] == vpc["VpcId"]
    assert (subnet["CidrBlock"], subnet["AvailableIpAddressCount"]) == ("172.31.0.0/20", 4091)
    (group,) = ec2.describe_security_groups()["SecurityGroups"]
    assert group["GroupName"] == "default" and group["VpcId"] == vpc["VpcId"]
    assert [g["GroupId"] for p in group["IpPermissions"] for g in p["UserIdGroupPairs"]] == [group["GroupId"]]
    assert [r["CidrIp"] for p in group["IpPermissionsEgress"] for r in p["IpRanges"]] == ["0.0.0.0/0"]


def test_the_tiny_image(account: Account, ec2):
    (image,) = ec2.describe_images(ImageIds=[account.cloud.image])["Images"]
    assert image["State"] == "available" and image["Architecture"] == "x86_64" and image["Public"]
    assert image["RootDeviceType"] == "ebs" and image["VirtualizationType"] == "hvm"


@pytest.mark.roles
def test_an_instance_shows_what_clients_read(account: Account, ec2):
    group = ec2.create_security_group(GroupName="web", Description="for the web")["GroupId"]
    ec2.create_key_pair(KeyName="k")
    (id,) = running(
        account, KeyName="k", SecurityGroupIds=[group], Monitoring={"Enabled": True},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web-1"}]}],
    )  # fmt: skip
    found = ec2.describe_instances(InstanceIds=[id])["Reservations"][0]
    assert found["OwnerId"] == account.id and LONG_ID.fullmatch(found["ReservationId"]) and found["Groups"] == []
    seen = found["Instances"][0]
    assert LONG_ID.fullmatch(id) and seen["State"] == {"Code": 16, "Name": "running"}
    assert seen["Placement"]["AvailabilityZone"] == "us-east-1a" and seen["Placement"]["Tenancy"] == "default"
    assert (seen["KeyName"], seen["InstanceType"], seen["ImageId"]) == ("k", "t3.nano", account.cloud.image)
    assert seen["Tags"] == [{"Key": "Name", "Value": "web-1"}] and seen["Monitoring"]["State"] == "disabled"
    assert seen["SecurityGroups"] == [{"GroupName": "web", "GroupId": group}]
    address = seen["PrivateIpAddress"]
    assert seen["PrivateDnsName"] == f"ip-{address.replace('.', '-')}.ec2.internal"
    assert seen["PublicIpAddress"] and seen["PublicDnsName"]
    (nic,) = seen["NetworkInterfaces"]
    assert nic["PrivateIpAddress"] == address and nic["Attachment"]["DeviceIndex"] == 0
    # euca2ools dies when this one is not there.
    assert nic["PrivateIpAddresses"][0]["Association"]["PublicIp"] == seen["PublicIpAddress"]
    assert seen["RootDeviceName"] == seen["BlockDeviceMappings"][0]["DeviceName"]
    assert seen["MetadataOptions"]["HttpTokens"] == "optional" and seen["MetadataOptions"]["HttpEndpoint"] == "enabled"
    assert seen["CpuOptions"]["CoreCount"] * seen["CpuOptions"]["ThreadsPerCore"] == 2
    assert seen["StateTransitionReason"] == "" and "StateReason" not in seen


@pytest.mark.roles
def test_a_terminated_instance_is_shown_empty_and_with_its_reason(account: Account, ec2):
    (id,) = running(account)
    changes = ec2.terminate_instances(InstanceIds=[id])["TerminatingInstances"]
    assert [(c["PreviousState"]["Code"], c["CurrentState"]["Code"]) for c in changes] == [(16, 32)]
    wait(account, [id], "terminated")
    seen = instance(ec2, id)
    assert seen["StateReason"] == {"Code": "Client.UserInitiatedShutdown", "Message": "Client.UserInitiatedShutdown: User initiated shutdown"} or (
        seen["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    )
    assert re.fullmatch(r"User initiated \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT\)", seen["StateTransitionReason"])
    assert seen["NetworkInterfaces"] == [] and seen["BlockDeviceMappings"] == [] and seen["SecurityGroups"] == []
    assert "PrivateIpAddress" not in seen and "PublicIpAddress" not in seen
    # Once more is no error, and changes nothing.
    again = ec2.terminate_instances(InstanceIds=[id])["TerminatingInstances"]
    assert [(c["PreviousState"]["Name"], c["CurrentState"]["Name"]) for c in again] == [("terminated", "terminated")]
    # The group is free again.
    assert ec2.describe_subnets()["Subnets"][0]["AvailableIpAddressCount"] == 4091


@pytest.mark.roles
def test_start_stop_and_their_answers(account: Account, ec2):
    (id,) = running(account)
    before = instance(ec2, id)
    (change,) = ec2.stop_instances(InstanceIds=[id])["StoppingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    wait(account, [id], "stopped")
    stopped = instance(ec2, id)
    assert stopped["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert stopped["StateTransitionReason"].startswith("User initiated (")
    assert stopped["PrivateIpAddress"] == before["PrivateIpAddress"]
    (change,) = ec2.start_instances(InstanceIds=[id])["StartingInstances"]
    assert (change["PreviousState"]["Code"], change["CurrentState"]["Code"]) == (80, 0)
    wait(account, [id], "running")
    after = instance(ec2, id)
    assert after["PrivateIpAddress"] == before["PrivateIpAddress"] and after["LaunchTime"] > before["LaunchTime"]
    assert "StateReason" not in after
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=id, InstanceType={"Value": "t3.micro"})


def test_instance_status(account: Account, ec2):
    ids = running(account, 2)
    ec2.stop_instances(InstanceIds=ids[:1])
    wait(account, ids[:1], "stopped")
    ec2.get_waiter("instance_status_ok").wait(InstanceIds=ids[1:], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    (status,) = ec2.describe_instance_status()["InstanceStatuses"]
    assert status["InstanceId"] == ids[1] and status["InstanceState"]["Code"] == 16
    assert (status["SystemStatus"]["Status"], status["InstanceStatus"]["Status"]) == ("ok", "ok")
    both = ec2.describe_instance_status(IncludeAllInstances=True)["InstanceStatuses"]
    assert {s["InstanceId"]: s["InstanceState"]["Name"] for s in both} == {ids[0]: "stopped", ids[1]: "running"}


@pytest.mark.roles
def test_console(account: Account, ec2):
    (id,) = running(account)
    output = ec2.get_console_output(InstanceId=id)
    assert output["InstanceId"] == id and output["Timestamp"]
    shot = ec2.get_console_screenshot(InstanceId=id)
    import base64

    assert base64.b64decode(shot["ImageData"])[:2] == b"\xff\xd8", "a JPEG"


def test_ids_of_several_launches_are_in_the_reservations_that_made_them(account: Account, ec2):
    first, second = run(account, 3), run(account, 2)
    made = {frozenset(i["InstanceId"] for i in r["Instances"]) for r in ec2.describe_instances()["Reservations"]}
    assert made == {frozenset(first), frozenset(second)}
    indices = {i["InstanceId"]: i["AmiLaunchIndex"] for i in instances(ec2)}
    assert sorted(indices[id] for id in first) == [0, 1, 2]


def test_who_am_i(account: Account):
    identity = account.client("sts").get_caller_identity()
    assert identity["Account"] == account.id and identity["Arn"] == f"arn:aws:iam::{account.id}:user/admin"
    user = account.client("iam").get_user()["User"]
    assert (user["UserName"], user["Arn"], user["UserId"]) == ("admin", identity["Arn"], identity["UserId"])


def test_network_interfaces_are_instances(account: Account, ec2):
    """What Terraform asks before it deletes a security group; an interface ends with its instance."""
    group = ec2.create_security_group(GroupName="web", Description="d")["GroupId"]
    by_group = [{"Name": "group-id", "Values": [group]}]
    assert ec2.describe_network_interfaces(Filters=by_group)["NetworkInterfaces"] == []
    (id,) = running(account, SecurityGroupIds=[group])
    (nic,) = ec2.describe_network_interfaces(Filters=by_group)["NetworkInterfaces"]
    (seen,) = instance(ec2, id)["NetworkInterfaces"]
    assert nic["Attachment"]["InstanceId"] == id and nic["TagSet"] == []
    for member in ("NetworkInterfaceId", "MacAddress", "PrivateIpAddress", "SubnetId", "VpcId", "Groups", "Status"):
        assert nic[member] == seen[member], member
    ec2.terminate_instances(InstanceIds=[id])
    wait(account, [id], "terminated")
    assert ec2.describe_network_interfaces(Filters=by_group)["NetworkInterfaces"] == []
    with refused("InvalidNetworkInterfaceID.NotFound"):
        ec2.describe_network_interfaces(NetworkInterfaceIds=[nic["NetworkInterfaceId"]])
    ec2.delete_security_group(GroupId=group)

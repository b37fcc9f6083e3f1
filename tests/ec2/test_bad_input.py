"""Wrong requests: each is answered 4xx with EC2's code, in EC2's form, and changes nothing."""

import base64
from datetime import timedelta
from xml.etree import ElementTree

import pytest

from harness.cloud import Account
from harness.ec2 import default_group, instances, running
from harness.signing import FORM, Raw, action, form

UNKNOWN_ID = "i-00000000000000001"


@pytest.fixture(scope="module")
def world(fake_cloud):
    """An account with one running instance, for all rows of the table."""
    account = fake_cloud.account()
    (id,) = running(account)
    return account, id


def snapshot(account: Account) -> list[str]:
    ec2 = account.ec2
    rows = [
        instances(ec2),
        ec2.describe_security_groups()["SecurityGroups"],
        ec2.describe_tags()["Tags"],
        ec2.describe_key_pairs()["KeyPairs"],
    ]
    return [str(row) for row in rows]


def launch(**more) -> dict:
    return action("RunInstances", ImageId="IMAGE", InstanceType="t3.nano", MinCount="1", MaxCount="1") | more


def b64(size: int) -> str:
    return base64.b64encode(b"x" * size).decode()


# name, parameters (IMAGE, ID and GROUP are replaced), code
TABLE: list[tuple[str, dict | list | bytes, str]] = [
    ("unknown action", action("MakeMeASandwich"), "InvalidAction"),
    ("action in another case", action("describeinstances"), "InvalidAction"),
    ("known action that is not served", action("CreateVpnGateway", Type="ipsec.1"), "UnsupportedOperation"),
    ("no action", {"Version": "2016-11-15"}, "MissingAction"),
    ("empty action", {"Action": "", "Version": "2016-11-15"}, "MissingAction"),
    ("nothing at all", b"", "MissingAction"),
    ("future version", {"Action": "DescribeRegions", "Version": "2031-01-01"}, "InvalidParameterValue"),
    ("no date as version", {"Action": "DescribeRegions", "Version": "latest"}, "InvalidParameterValue"),
    ("unknown parameter", action("DescribeInstances", Colour="red"), "UnknownParameter"),
    ("parameter in another case", action("DescribeInstances", instanceId__1="ID"), "UnknownParameter"),
    ("the query protocol's list", action("DescribeInstances", InstanceId__member__1="ID"), "UnknownParameter"),
    ("unknown member of a structure", launch(**{"Placement.Mood": "good"}), "UnknownParameter"),
    ("a member of a scalar", launch(**{"ImageId.Name": "x"}), "UnknownParameter"),
    ("known and not supported", launch(**{"HibernationOptions.Configured": "true"}), "UnsupportedOperation"),
    ("a word for a number", launch(MinCount="one"), "InvalidParameterValue"),
    ("a fraction", launch(MinCount="1.5"), "InvalidParameterValue"),
    ("a number beyond 32 bits", launch(MinCount="4294967297"), "InvalidParameterValue"),
    ("zero instances", launch(MinCount="0"), "InvalidParameterValue"),
    ("a negative count", launch(MaxCount="-1"), "InvalidParameterValue"),
    ("min above max", launch(MinCount="3", MaxCount="2"), "InvalidParameterValue"),
    ("far too many", launch(MaxCount="2000000000"), "InvalidParameterValue"),
    ("a word for a boolean", launch(DisableApiTermination="perhaps"), "InvalidParameterValue"),
    ("required and missing", action("RunInstances", ImageId="IMAGE", MinCount="1"), "MissingParameter"),
    ("required and empty", action("TerminateInstances", InstanceId__1=""), "MissingParameter"),
    ("no ids", action("TerminateInstances"), "InvalidParameterCombination"),
    ("malformed id", action("TerminateInstances", InstanceId__1="i-xyz"), "InvalidInstanceID.Malformed"),
    ("an id of another kind", action("TerminateInstances", InstanceId__1="vol-00000000000000001"), "InvalidInstanceID.Malformed"),
    ("upper-case id", action("TerminateInstances", InstanceId__1="i-0ABCDEFABCDEFABCD"), "InvalidInstanceID.Malformed"),
    ("a long id", action("TerminateInstances", InstanceId__1="i-" + "0" * 5000), "InvalidInstanceID.Malformed"),
    ("an old, short id", action("TerminateInstances", InstanceId__1="i-12345678"), "InvalidInstanceID.NotFound"),
    ("unknown id", action("TerminateInstances", InstanceId__1=UNKNOWN_ID), "InvalidInstanceID.NotFound"),
    ("another cloud's id", action("TerminateInstances", InstanceId__1="i-1234567890abcdef0"), "InvalidInstanceID.NotFound"),
    ("known and unknown id", action("TerminateInstances", InstanceId__1="ID", InstanceId__2=UNKNOWN_ID), "InvalidInstanceID.NotFound"),
    ("an injection", action("TerminateInstances", InstanceId__1="' or '1'='1"), "InvalidInstanceID.Malformed"),
    ("malformed image", launch(ImageId="emi-1234"), "InvalidAMIID.Malformed"),
    ("unknown image", launch(ImageId="ami-00000000000000001"), "InvalidAMIID.NotFound"),
    ("unknown type", launch(InstanceType="t9.colossal"), "InvalidParameterValue"),
    ("unknown key", launch(KeyName="nobody"), "InvalidKeyPair.NotFound"),
    ("unknown zone", launch(**{"Placement.AvailabilityZone": "mars-1a"}), "InvalidParameterValue"),
    ("malformed group", launch(**{"SecurityGroupId.1": "sg-?"}), "InvalidGroupId.Malformed"),
    ("address outside the subnet", launch(PrivateIpAddress="10.9.9.9"), "InvalidParameterValue"),
    ("a reserved address", launch(PrivateIpAddress="172.31.0.1"), "InvalidParameterValue"),
    ("no address", launch(PrivateIpAddress="172.31.0.999"), "InvalidParameterValue"),
    ("user data that is not base64", launch(UserData="#!/bin/sh"), "InvalidUserData.Malformed"),
    ("oversize user data", launch(UserData=b64(16385)), "InvalidParameterValue"),
    ("very oversize user data", launch(UserData=b64(200_000)), "InvalidParameterValue"),
    ("list index 999999999", action("DescribeInstances", **{"InstanceId.999999999": UNKNOWN_ID}), "InvalidParameterValue"),
    ("negative list index", action("DescribeInstances", **{"InstanceId.-1": "ID"}), "UnknownParameter"),
    ("list index beyond 64 bits", action("DescribeInstances", **{"InstanceId.99999999999999999999": "ID"}), "InvalidParameterValue"),
    ("one list index in two spellings", action("DescribeInstances", **{"InstanceId.01": "ID", "InstanceId.1": "ID"}), "InvalidQueryParameter"),
    ("a path a mile long", action("DescribeInstances", **{"Filter." + "1." * 2000 + "Name": "x"}), "MalformedQueryString"),
    ("duplicate parameter", [*action("DescribeInstances").items(), ("MaxResults", "5"), ("MaxResults", "6")], "MalformedQueryString"),
    ("duplicate action", [*action("DescribeRegions").items(), ("Action", "TerminateInstances")], "MalformedQueryString"),
    ("invalid UTF-8 in a value", action("DescribeInstances", **{"Filter.1.Name": b"\xff\xfe"}), "MalformedQueryString"),
    ("invalid UTF-8 in a name", b"Action=DescribeInstances&Version=2016-11-15&%ff=1", "MalformedQueryString"),
    ("NUL", action("CreateKeyPair", KeyName="a\0b"), "InvalidParameterValue"),
    ("a broken escape", b"Action=DescribeInstances&Version=2016-11-15&MaxResults=%zz", "MalformedQueryString"),
    ("control characters in a tag", action("CreateTags", **{"ResourceId.1": "ID", "Tag.1.Key": "a", "Tag.1.Value": "\x1b[2J"}), "InvalidParameterValue"),
    ("U+FFFE in a tag, which XML has not", action("CreateTags", **{"ResourceId.1": "ID", "Tag.1.Key": "a", "Tag.1.Value": "\ufffe"}), "InvalidParameterValue"),
    ("a tag without a key", action("CreateTags", **{"ResourceId.1": "ID", "Tag.1.Value": "v"}), "MissingParameter"),
    ("the same tag key twice", action("CreateTags", **{"ResourceId.1": "ID", "Tag.1.Key": "a", "Tag.2.Key": "a"}), "InvalidParameterValue"),
    ("a tag on nothing that there is", action("CreateTags", **{"ResourceId.1": "xyz-1", "Tag.1.Key": "a"}), "InvalidID"),
    ("control characters in a description", action("CreateSecurityGroup", GroupName="g", GroupDescription="a\x07"), "InvalidParameterValue"),
    ("a foreign token", action("DescribeInstances", NextToken="e30="), "InvalidNextToken"),
    ("ids with MaxResults", action("DescribeInstances", InstanceId__1="ID", MaxResults="5"), "InvalidParameterCombination"),
    ("an unknown filter", action("DescribeInstances", **{"Filter.1.Name": "x", "Filter.1.Value.1": "y"}), "InvalidParameterValue"),
    ("a disk that is not there", action("ModifyInstanceAttribute", **{"InstanceId": "ID", "BlockDeviceMapping.1.DeviceName": "/dev/sdz"}), "InvalidInstanceAttributeValue"),
    ("an attribute without a value", action("ModifyInstanceAttribute", InstanceId="ID", Attribute="userData"), "MissingParameter"),
    ("a filter without a name", action("DescribeInstances", **{"Filter.1.Value.1": "x"}), "InvalidParameterValue"),
    ("a wrong enumeration", action("DescribeInstanceAttribute", InstanceId="ID", Attribute="mood"), "InvalidParameterValue"),
    ("two ways to say the group", action("DeleteSecurityGroup", GroupId="GROUP", GroupName="default"), "InvalidParameterCombination"),
    ("a rule without anything", action("AuthorizeSecurityGroupIngress", GroupId="GROUP"), "MissingParameter"),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "code"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table(world, parameters, code):
    account, id = world
    names = {"IMAGE": account.cloud.image, "ID": id, "GROUP": default_group(account.ec2)}
    if isinstance(parameters, dict):
        parameters = {k: names.get(v, v) if isinstance(v, str) else v for k, v in parameters.items()}
    before = snapshot(account)
    answer = Raw(account.cloud, account.key).post(parameters)
    assert answer.error() == (code, 400), answer.text
    root = ElementTree.fromstring(answer.body)
    assert root.tag == "Response" and root.find("Errors/Error/Message").text and len(answer.body) < 4000
    assert root.find("RequestID").text == answer.headers["x-amzn-requestid"]
    assert snapshot(account) == before


def test_an_unknown_action_in_the_words_that_terraform_reads(raw: Raw):
    answer = raw.post(action("DescribeTheWeather"))
    assert answer.message == "The action DescribeTheWeather is not valid for this web service."


def test_every_operation_of_the_model_is_known(raw: Raw, ec2):
    """830 of them: served, or refused as known."""
    operations = ec2.meta.service_model.operation_names
    assert len(operations) == 830
    unknown = []
    for name in operations:
        code, status = raw.post(action(name, DryRun="true")).error()
        if code == "InvalidAction" and name != "DescribeAddressesAttribute":
            unknown.append(name)
        assert status in (200, 400, 412), (name, code, status)
    assert unknown == []


def test_escaped_text_comes_back_as_text(raw: Raw):
    answer = raw.post(action("DescribeInstances", **{"Filter.1.Name": "<script>&amp;\"'", "Filter.1.Value.1": "x"}))
    assert "<script>" not in answer.text and "<script>&amp;\"'" in answer.message


def test_signatures_of_the_table(world):
    account, _ = world
    raw, describe = Raw(account.cloud, account.key), action("DescribeRegions")
    for changes, expected in [
        ({"break_signature": True}, ("AuthFailure", 401)),
        ({"offset": timedelta(minutes=-20)}, ("RequestExpired", 400)),
        ({"offset": timedelta(minutes=20)}, ("RequestExpired", 400)),
    ]:
        assert raw.post(describe, raw.signer.but(**changes)).error() == expected, changes
    body = form(describe)
    unsigned = {"Host": account.cloud.address, "Content-Type": FORM}
    assert raw.send("POST", "/", unsigned, body).error() == ("MissingAuthenticationToken", 403)


def test_a_huge_body(world):
    account, _ = world
    raw = Raw(account.cloud, account.key)
    answer = raw.post(action("DescribeRegions") | {"Filter.1.Name": "x" * (2 << 20)})
    assert answer.error() == ("RequestEntityTooLarge", 413)
    # Announced and never sent: refused without waiting for it.
    headers = raw.signer.but().headers(account.cloud.address, b"")
    answer = raw.send("POST", "/", headers | {"Content-Length": str(1 << 40)}, b"", timeout=25)
    assert answer.error() == ("RequestEntityTooLarge", 413)


def test_very_many_parameters(world):
    account, _ = world
    raw = Raw(account.cloud, account.key)
    many = action("DescribeInstances") | {f"InstanceId.{n}": UNKNOWN_ID for n in range(1, 20_000)}
    code, status = raw.post(many).error()
    assert 400 <= status < 500, (code, status)


def test_other_methods(world):
    account, _ = world
    raw = Raw(account.cloud, account.key)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        headers = raw.signer.but().headers(account.cloud.address, b"", method=method)
        assert raw.send(method, "/", headers).status == 405, method


def test_the_cloud_is_as_well_as_before(world):
    account, id = world
    assert [i["InstanceId"] for i in instances(account.ec2)] == [id]
    # Instances that other tests have left may still be on their way.
    account.cloud.wait_clean()

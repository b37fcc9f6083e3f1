"""Public parameters with the stock clients: an operator names images, and tenants find them by that."""

import json

import pytest

from harness.cloud import Account, Cloud
from harness.ec2 import instance, refused, run


@pytest.fixture
def ssm(account: Account):
    return account.client("ssm")


@pytest.fixture
def folder(fake_cloud: Cloud, account: Account):
    """A path of the test's own; what is named below it is taken away again."""
    path = f"/aws/service/{account.id}"
    yield path
    for line in fake_cloud.run("image", "alias", "list").splitlines():
        if line.startswith(path):
            fake_cloud.run("image", "alias", "remove", line.split()[0])


def test_an_alias_from_set_to_removed(fake_cloud: Cloud, account: Account, ssm, folder: str):
    name, image = f"{folder}/latest", fake_cloud.image
    assert fake_cloud.run("image", "alias", "set", name, image).split() == [name, image, "1"]
    first = ssm.get_parameter(Name=name)["Parameter"]
    assert (first["Value"], first["Version"], first["Type"], first["DataType"]) == (image, 1, "String", "aws:ec2:image")
    assert first["ARN"] == f"arn:aws:ssm:us-east-1::parameter{name}"
    assert fake_cloud.run("image", "alias", "set", name, image).split()[2] == "2"
    again = ssm.get_parameter(Name=first["ARN"], WithDecryption=True)["Parameter"]
    assert again["Version"] == 2 and again["LastModifiedDate"] >= first["LastModifiedDate"]
    assert f"{name}  {image}  2" in fake_cloud.run("image", "alias", "list").splitlines()
    (id,) = run(account, ImageId=f"resolve:ssm:{name}")
    assert instance(account.ec2, id)["ImageId"] == image
    done = fake_cloud.execute("image", "delete", image)
    assert done.returncode != 0 and "in use" in done.stderr, done.stderr
    fake_cloud.run("image", "alias", "remove", name)
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name=name)
    with refused("SsmInvalidParameter", message=name):
        run(account, ImageId=f"resolve:ssm:{name}")


def test_the_operator_is_told_what_is_no_name(fake_cloud: Cloud, folder: str):
    for name, word in [("/golden", "begin with"), (f"{folder}/a b", "levels of"), (f"{folder}/" + "x/" * 15 + "y", "15 levels")]:
        done = fake_cloud.execute("image", "alias", "set", name, fake_cloud.image)
        assert done.returncode != 0 and word in done.stderr, (name, done.stderr)
    for arguments in (["set", f"{folder}/x", "ami-0123456789abcdef0"], ["remove", f"{folder}/x"]):
        done = fake_cloud.execute("image", "alias", *arguments)
        assert done.returncode != 0 and done.stderr, arguments


def test_several_and_pages(fake_cloud: Cloud, ssm, folder: str):
    names = [f"{folder}/{n:02}" for n in range(3)] + [f"{folder}/deep/one"]
    for name in names:
        fake_cloud.run("image", "alias", "set", name, fake_cloud.image)
    found = ssm.get_parameters(Names=[names[1], f"{folder}/none", names[0], f"{names[2]}:7"])
    assert [p["Name"] for p in found["Parameters"]] == names[:2]
    assert found["InvalidParameters"] == [f"{names[2]}:7", f"{folder}/none"]
    with pytest.raises(ssm.exceptions.ParameterVersionNotFound):
        ssm.get_parameter(Name=f"{names[0]}:2")
    assert ssm.get_parameter(Name=f"{names[0]}:1")["Parameter"]["Selector"] == ":1"
    for recursive, expected in ((True, names), (False, names[:3])):
        pages = ssm.get_paginator("get_parameters_by_path").paginate(
            Path=folder, Recursive=recursive, PaginationConfig={"PageSize": 2}
        )
        assert [p["Name"] for page in pages for p in page["Parameters"]] == expected
    with pytest.raises(ssm.exceptions.InvalidNextToken):
        ssm.get_parameters_by_path(Path=folder, NextToken="nonsense")
    with refused("UnsupportedOperationException", message="ParameterFilters"):
        ssm.get_parameters_by_path(Path=folder, ParameterFilters=[{"Key": "Type", "Values": ["String"]}])
    with refused("UnsupportedOperationException"):
        ssm.put_parameter(Name="/mine", Value="x", Type="String")


def test_readers_read_and_the_command_line_too(fake_cloud: Cloud, account: Account, folder: str):
    name = f"{folder}/latest"
    fake_cloud.run("image", "alias", "set", name, fake_cloud.image)
    reader = account.user("parameters", read_only=True)
    value = fake_cloud.aws("ssm", "get-parameter", "--name", name, "--query", "Parameter.Value", key=reader)
    assert value == fake_cloud.image
    done = fake_cloud.aws_run("ssm", "get-parameters-by-path", "--path", folder, key=reader)
    assert [p["Value"] for p in json.loads(done.stdout)["Parameters"]] == [fake_cloud.image]
    launch = ["ec2", "run-instances", "--image-id", f"resolve:ssm:{name}", "--instance-type", "t3.nano"]
    (made,) = fake_cloud.aws(*launch, key=account.key)["Instances"]
    assert made["ImageId"] == fake_cloud.image
    done = fake_cloud.aws_run(*launch, key=reader)
    assert done.returncode != 0 and "UnauthorizedOperation" in done.stderr

"""Terraform with the stock AWS provider: what is described is made, a second plan finds nothing to do, and all of it is
taken away again."""

from pathlib import Path

import pytest

from harness import terraform
from harness.cloud import Account
from harness.ec2 import default_group, instance, running
from harness.guest import ssh_key
from harness.terraform import Terraform

pytestmark = [pytest.mark.clients, pytest.mark.skipif(bool(terraform.missing()), reason=terraform.missing())]


def small(public: bytes) -> str:
    return f"""
resource "aws_key_pair" "k" {{
  key_name   = "k"
  public_key = "{public.decode().strip()}"
  tags       = {{ made = "by terraform" }}
}}

resource "aws_placement_group" "g" {{
  name     = "g"
  strategy = "spread"
}}

output "key" {{ value = aws_key_pair.k.key_pair_id }}
output "group" {{ value = aws_placement_group.g.placement_group_id }}
"""


@pytest.mark.sample
def test_a_key_pair_and_a_placement_group(account: Account, ec2, key_folder: Path):
    _, public = ssh_key(key_folder)
    terraform = Terraform(account, key_folder, small(public))
    made = terraform.apply()
    (key,) = ec2.describe_key_pairs()["KeyPairs"]
    assert key["KeyPairId"] == made["key"] and key["Tags"] == [{"Key": "made", "Value": "by terraform"}]
    (group,) = ec2.describe_placement_groups()["PlacementGroups"]
    assert group["GroupId"] == made["group"] and group["Strategy"] == "spread"
    assert terraform.is_settled()
    terraform.destroy()
    assert ec2.describe_key_pairs()["KeyPairs"] == ec2.describe_placement_groups()["PlacementGroups"] == []


LOOKS = """
data "aws_ami" "tiny" {
  filter {
    name   = "image-id"
    values = ["%(image)s"]
  }
}

data "aws_vpcs" "all" {}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = data.aws_vpcs.all.ids
  }
}

data "aws_availability_zones" "all" {}

data "aws_security_group" "default" {
  vpc_id = data.aws_vpcs.all.ids[0]
  name   = "default"
}

data "aws_caller_identity" "me" {}

output "vpcs" { value = data.aws_vpcs.all.ids }
output "subnets" { value = data.aws_subnets.default.ids }
output "zones" { value = data.aws_availability_zones.all.names }
output "group" { value = data.aws_security_group.default.id }
output "account" { value = data.aws_caller_identity.me.account_id }
output "ami" { value = data.aws_ami.tiny.id }
"""

MINE = """
data "aws_instances" "mine" {
  instance_tags = { Name = "one" }
}

output "mine" { value = data.aws_instances.mine.ids }
output "addresses" { value = data.aws_instances.mine.private_ips }
"""


def test_data_sources(account: Account, ec2, key_folder: Path):
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "one"}]}]
    (id,) = running(account, TagSpecifications=tags)
    running(account)
    terraform = Terraform(account, key_folder, LOOKS % {"image": account.cloud.image} + MINE)
    seen = terraform.apply()
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    (subnet,) = ec2.describe_subnets()["Subnets"]
    assert (seen["vpcs"], seen["subnets"]) == ([vpc["VpcId"]], [subnet["SubnetId"]])
    assert seen["zones"] == [subnet["AvailabilityZone"]] and seen["account"] == account.id
    assert (seen["ami"], seen["group"]) == (account.cloud.image, default_group(ec2))
    assert (seen["mine"], seen["addresses"]) == ([id], [instance(ec2, id)["PrivateIpAddress"]])
    assert terraform.is_settled()


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=pytest.mark.skip(reason=f"Terraform's {what}: {why}"))
        for what, why in [
            ("aws_instance", "it asks for DescribeVolumes, which does not exist yet"),
            ("aws_vpc", "it asks for DescribeVpcAttribute, which does not exist yet"),
            ("aws_security_group", "the rules of what leaves a group are not answered as it expects yet"),
        ]
    ],
)
def test_what_does_not_work_yet(what: str):
    """Applied, settled and destroyed as the others."""

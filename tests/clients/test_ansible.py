"""Ansible's modules for EC2 (the collection amazon.aws): what a playbook describes is made, a second run changes
nothing, and what it says shall be absent goes."""

import pytest

from harness import ansible as program
from harness.ansible import Ansible, task
from harness.cloud import Account
from harness.ec2 import instances

pytestmark = [pytest.mark.clients, pytest.mark.skipif(bool(program.missing()), reason=program.missing())]


def test_a_key_pair(ansible: Ansible, ec2):
    made = ansible.play(task("first", "ec2_key", name="k"), task("again", "ec2_key", name="k"))
    assert made["first"]["changed"] and not made["again"]["changed"]
    (key,) = ec2.describe_key_pairs()["KeyPairs"]
    assert key["KeyPairId"] == made["first"]["key"]["id"]
    gone = ansible.play(
        task("gone", "ec2_key", name="k", state="absent"), task("again", "ec2_key", name="k", state="absent")
    )
    assert gone["gone"]["changed"] and not gone["again"]["changed"]
    assert ec2.describe_key_pairs()["KeyPairs"] == []


def test_the_life_of_an_instance(ansible: Ansible, account: Account, ec2):
    wanted = {
        "name": "one", "image_id": account.cloud.image, "instance_type": "t3.nano", "wait": True, "wait_timeout": 60,
    }  # fmt: skip
    made = ansible.play(
        task("first", "ec2_instance", state="running", **wanted), task("again", "ec2_instance", state="running", **wanted)
    )
    assert made["first"]["changed"] and not made["again"]["changed"], "asked again, nothing is done"
    (seen,) = instances(ec2)
    assert made["first"]["instance_ids"] == made["again"]["instance_ids"] == [seen["InstanceId"]]
    assert seen["State"]["Name"] == "running" and {"Key": "Name", "Value": "one"} in seen["Tags"]
    ids = {"instance_ids": [seen["InstanceId"]], "wait": True, "wait_timeout": 60}
    gone = ansible.play(
        task("stopped", "ec2_instance", state="stopped", **ids),
        task("started", "ec2_instance", state="started", **ids),
        task("gone", "ec2_instance", state="terminated", **ids),
    )
    assert all(result["changed"] for result in gone.values())
    assert {i["State"]["Name"] for i in instances(ec2)} == {"terminated"}


def test_a_security_group(ansible: Ansible, ec2):
    rules = [{"proto": "tcp", "from_port": 22, "to_port": 22, "cidr_ip": "10.0.0.0/8"}]
    wanted = {"name": "g", "description": "d", "rules": rules}
    made = ansible.play(task("first", "ec2_security_group", **wanted), task("again", "ec2_security_group", **wanted))
    assert made["first"]["changed"] and not made["again"]["changed"]
    (group,) = ec2.describe_security_groups(GroupNames=["g"])["SecurityGroups"]
    assert [r["FromPort"] for r in group["IpPermissions"]] == [22]
    gone = ansible.play(task("gone", "ec2_security_group", name="g", state="absent"))
    assert gone["gone"]["changed"]

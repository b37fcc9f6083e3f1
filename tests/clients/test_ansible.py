"""Ansible's modules for EC2 (the collection amazon.aws): what a playbook describes is made, a second run changes
nothing, and what it says shall be absent goes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cloud import Account
from harness.ec2 import instances

PROGRAM = Path(sys.executable).parent / "ansible-playbook"

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(
        not PROGRAM.exists(), reason="Ansible is not in this environment (scripts/test-clients makes one that has it)"
    ),
]


class Ansible:
    """Plays against one account of a cloud."""

    def __init__(self, account: Account, folder: Path) -> None:
        self.account, self.folder = account, folder

    def play(self, *tasks: dict) -> dict[str, dict]:
        """Runs tasks; each one's result, by the task's name."""
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": list(tasks)}
        book = self.folder / "play.json"  # JSON is YAML
        book.write_text(json.dumps([play]))
        key = self.account.key
        environment = {
            "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "AWS_ACCESS_KEY_ID": key.id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.account.cloud.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        command = [str(PROGRAM), "-i", "localhost,", str(book)]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        (played,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
        return {task["task"]["name"]: task["hosts"]["localhost"] for task in played["tasks"]}


def task(name: str, module: str, /, **arguments) -> dict:
    return {"name": name, f"amazon.aws.{module}": arguments}


@pytest.fixture
def ansible(account: Account, tmp_path: Path) -> Ansible:
    return Ansible(account, tmp_path)


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

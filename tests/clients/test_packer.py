"""Packer's amazon-ebs, as Debian has it: an image is built of a Debian guest, which a shell script has changed, and an
instance of what it made has the change."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import volumes
from harness.cloud import Cloud
from harness.guest import launch, shell_key, terminate

PROGRAM = shutil.which("packer")

pytestmark = [
    pytest.mark.clients,
    pytest.mark.one_process,
    pytest.mark.skipif(PROGRAM is None, reason="Packer is not installed (apt-get install packer)"),
]


def template(cloud: Cloud, source: str, key: Path) -> dict:
    # A key of our own: the one that this version makes signs by SHA-1, which no OpenSSH of today takes.
    builder = {
        "type": "amazon-ebs", "region": "us-east-1", "custom_endpoint_ec2": cloud.endpoint, "skip_region_validation": True,
        "skip_metadata_api_check": True, "source_ami": source, "instance_type": "t2.micro", "ami_name": "built-{{timestamp}}",
        "ami_description": "built by packer", "ssh_username": "debian", "ssh_keypair_name": "k",
        "ssh_private_key_file": str(key), "ssh_timeout": "6m", "associate_public_ip_address": True,
        "ssh_interface": "public_ip", "tags": {"built": "yes"}, "snapshot_tags": {"of": "packer"},
        "launch_block_device_mappings": [
            {"device_name": "/dev/xvda", "volume_size": 3, "volume_type": "gp2", "delete_on_termination": True},
        ],
    }  # fmt: skip
    script = ["cloud-init status --wait >/dev/null; echo made by packer | sudo tee /etc/made", "sync"]
    return {"builders": [builder], "provisioners": [{"type": "shell", "inline": script}]}


def packer(cloud: Cloud, account, folder: Path, what: dict) -> str:
    """What a build says, line by line, for machines."""
    file = folder / "template.json"
    file.write_text(json.dumps(what))
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "CHECKPOINT_DISABLE": "1", "PACKER_NO_COLOR": "1",
        "AWS_ACCESS_KEY_ID": account.key.id, "AWS_SECRET_ACCESS_KEY": account.key.secret,
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_POLL_DELAY_SECONDS": "2", "AWS_MAX_ATTEMPTS": "300",
    }  # fmt: skip
    command = [str(PROGRAM), "-machine-readable", "build", str(file)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_an_image_is_built_and_boots(real_cloud: Cloud, debian_image, key_folder, tmp_path):
    account = real_cloud.account()
    ec2 = account.ec2
    source = real_cloud.run("image", "import", "--name", "debian-12", "--account", account.id, str(debian_image))
    key = shell_key(account, key_folder)
    said = packer(real_cloud, account, tmp_path, template(real_cloud, source, key))
    (artifact,) = [line.split(",")[-1] for line in said.splitlines() if ",artifact,0,id," in line]
    image = artifact.split(":")[-1].removeprefix("us-east-1%!(PACKER_COLON)")
    (made,) = ec2.describe_images(Owners=["self"], ImageIds=[image])["Images"]
    assert (made["State"], made["Description"]) == ("available", "built by packer")
    assert {tag["Key"]: tag["Value"] for tag in made["Tags"]} == {"built": "yes"}
    (root,) = [mapping["Ebs"] for mapping in made["BlockDeviceMappings"]]
    (snapshot,) = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert (root["SnapshotId"], root["VolumeSize"]) == (snapshot["SnapshotId"], 3)
    # It has cleaned up after itself.
    left = ec2.describe_instances()["Reservations"]
    assert {seen["State"]["Name"] for group in left for seen in group["Instances"]} == {"terminated"}
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == ["default"]

    (guest,) = launch(account, key, "k", user="debian", ImageId=image, InstanceType="t2.micro")
    guest.wait_console("login:", timeout=240)
    guest.wait_ssh(120)
    assert guest.ssh("cat /etc/made") == "made by packer"
    # The instance is another one, and cloud-init has seen that.
    assert guest.ssh("cloud-init query instance_id", timeout=120) == guest.id
    terminate(account, guest)
    ec2.deregister_image(ImageId=image)
    ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
    volumes.delete_all(account)
    real_cloud.wait_clean()

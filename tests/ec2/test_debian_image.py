"""A stock Debian with unconfigured cloud-init: it finds out by itself that it is on EC2, and does what it is told."""

import json

from harness import volumes
from harness.cloud import Account, Cloud
from harness.ec2 import default_group
from harness.guest import Guest, allow, launch, ssh_key, terminate
from harness.wait import until

USER_DATA = """#cloud-config
write_files:
  - path: /etc/proof
    content: written by cloud-init
runcmd:
  - [sh, -c, "echo ran >>/var/lib/runs"]
"""


def test_debian_with_stock_cloud_init(real_cloud: Cloud, debian_image, key_folder):
    account = real_cloud.account()
    image = real_cloud.run("image", "import", "--name", "debian-12", "--account", account.id, str(debian_image))
    key, public = ssh_key(key_folder)
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    allow(account, default_group(account.ec2), "tcp", (22, 22))
    (guest,) = launch(account, key, "k", user="debian", ImageId=image, InstanceType="t2.micro", UserData=USER_DATA)
    guest.wait_console("login:", timeout=240)
    guest.wait_ssh(120)
    seen = guest.describe()
    guest.ssh("cloud-init status --wait >/dev/null", check=False, timeout=240)
    status = guest.ssh("cloud-init status --long", check=False)
    assert status.startswith("status: done\n") and "error" not in status.lower(), status
    # Each stage by itself, and what was only warned of (later versions call it a recoverable error).
    stages = json.loads(guest.ssh("sudo cat /run/cloud-init/status.json"))["v1"]
    assert {name: stage["errors"] for name, stage in stages.items() if isinstance(stage, dict) and stage["errors"]} == {}
    warned = guest.ssh(r"sudo grep -E '\[(WARNING|ERROR|CRITICAL)\]: ' /var/log/cloud-init.log || true")
    assert warned == "", warned
    assert guest.ssh("cat /etc/default/locale") == "LANG=C.UTF-8"
    assert guest.ssh("cloud-id") == "aws"
    datasource = guest.ssh("sudo cat /run/cloud-init/result.json")
    assert "DataSourceEc2" in datasource and '"errors": []' in datasource
    assert guest.ssh("hostname") == seen["PrivateDnsName"].split(".")[0]
    assert guest.ssh("cat /etc/proof") == "written by cloud-init" and guest.ssh("cat /var/lib/runs") == "ran"
    assert seen["PrivateIpAddress"] in guest.ssh("ip -4 -o addr")
    assert guest.ssh("curl --version >/dev/null 2>&1; sudo cloud-init query instance_id") == guest.id
    volumes_have_their_links(account, guest)
    terminate(account, guest)
    volumes.delete_all(account)
    real_cloud.wait_clean()


def volumes_have_their_links(account: Account, guest: Guest) -> None:
    """As the node's side of Kubernetes' EBS driver looks for them: by link and by serial number."""
    (root,) = [mapping["Ebs"]["VolumeId"] for mapping in guest.describe()["BlockDeviceMappings"]]
    by_id = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_"

    def link(volume: str, part: str = "") -> str:
        return guest.ssh(f"readlink -f {by_id}{volume.replace('-', '')}{part}")

    assert (link(root), link(root, "-part2")) == ("/dev/vda", "/dev/vda2")
    volume = volumes.create(account)
    volumes.attach(account, volume, guest.id, "/dev/xvdaa")
    disk = "/dev/" + volumes.wait_disk(guest, volume)
    until(lambda: link(volume) == disk, f"{volume} has its link", 30, every=0.5)
    assert guest.ssh(f"lsblk -dno SERIAL {disk}") == volume.replace("-", "")
    volumes.detach(account, volume)
    until(lambda: guest.ssh(f"ls {by_id}* | grep -c {volume.replace('-', '')} || true") == "0", "its link is gone", 30)

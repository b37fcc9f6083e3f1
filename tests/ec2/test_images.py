"""Images: own, public and private, from import to deregistration."""

import re
import subprocess
from pathlib import Path

import pytest

from harness.cloud import Account, Cloud
from harness.ec2 import filters, instance, refused, run, running


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "3G"], check=True)
    return path


@pytest.mark.roles
def test_import_describe_deregister(fake_cloud: Cloud, account: Account, ec2, disk: Path):
    owned = ["--account", account.id]
    id = fake_cloud.run("image", "import", "--name", "mine", "--description", "a disk", "--private", *owned, str(disk))
    assert re.fullmatch(r"ami-0[0-9a-f]{16}", id)
    (seen,) = ec2.describe_images(Owners=["self"])["Images"]
    assert (seen["ImageId"], seen["Name"], seen["Description"], seen["Public"]) == (id, "mine", "a disk", False)
    assert seen["State"] == "available" and seen["OwnerId"] == account.id
    assert seen["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 3
    assert ec2.describe_images(Owners=[account.id])["Images"] == [seen]
    assert ec2.describe_images(ExecutableUsers=["self"])["Images"] == []
    made = run(account, ImageId=id)
    ec2.deregister_image(ImageId=id)
    with refused("InvalidAMIID.NotFound"):
        ec2.describe_images(ImageIds=[id])
    with refused("InvalidAMIID.Unavailable"):
        run(account, ImageId=id)
    # An instance of it goes on and says what it was made from.
    assert instance(ec2, made[0])["ImageId"] == id


def test_private_and_foreign(fake_cloud: Cloud, account: Account, disk: Path):
    other = fake_cloud.account()
    private = fake_cloud.run("image", "import", "--name", "image-p", "--private", "--account", other.id, str(disk))
    public = fake_cloud.run("image", "import", "--name", "image-q", "--account", other.id, str(disk))
    assert [i["ImageId"] for i in account.ec2.describe_images(Owners=[other.id])["Images"]] == [public]
    for call in (
        lambda: account.ec2.describe_images(ImageIds=[private]),
        lambda: run(account, ImageId=private),
        lambda: account.ec2.deregister_image(ImageId=private),
    ):
        with refused("InvalidAMIID.NotFound"):
            call()
    with pytest.raises(Exception, match="InvalidAMIID.NotFound|UnauthorizedOperation|AuthFailure"):
        account.ec2.deregister_image(ImageId=public)
    assert len(running(account, ImageId=public)) == 1
    other.ec2.deregister_image(ImageId=public)
    with refused("InvalidAMIID.NotFound"):
        account.ec2.describe_images(ImageIds=[public])


def test_a_root_disk_is_at_least_as_large_as_its_image(fake_cloud: Cloud, account: Account, ec2, disk: Path):
    id = fake_cloud.run("image", "import", "--name", "image-r", "--account", account.id, str(disk))
    device = ec2.describe_images(ImageIds=[id])["Images"][0]["RootDeviceName"]

    def mapping(size: int) -> list[dict]:
        return [{"DeviceName": device, "Ebs": {"VolumeSize": size}}]

    with refused("InvalidBlockDeviceMapping", message="smaller than its image"):
        run(account, ImageId=id, BlockDeviceMappings=mapping(2))
    with refused("InvalidParameterValue"):
        run(account, ImageId=id, BlockDeviceMappings=mapping(0))
    run(account, ImageId=id, BlockDeviceMappings=mapping(5))
    assert "in use" in fake_cloud.execute("image", "delete", id).stderr


def test_list_and_delete_by_the_operator(fake_cloud: Cloud, account: Account, ec2, disk: Path):
    id = fake_cloud.run("image", "import", "--name", "image-s", "--format", "qcow2", "--account", account.id, str(disk))
    assert id in fake_cloud.run("image", "list")
    fake_cloud.run("image", "delete", id)
    assert ec2.describe_images(Filters=filters(image_id=[id]))["Images"] == []

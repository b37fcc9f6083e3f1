"""Encryption at rest with real guests: what one writes to an encrypted disk is in no file of the host in plain text, and
comes back through snapshots, images and restarts of everything."""

from pathlib import Path

import pytest

from harness import volumes
from harness.cloud import Account, Cloud
from harness.ec2 import FAST, refused
from harness.guest import Guest, launch, terminate
from harness.volumes import attach, detach, wait_completed, wait_disk, wait_free

pytestmark = pytest.mark.one_process

# No file has this by chance, and it is not in this text as it is in a disk.
MARK = "plain-text" + "-of-a-guest"
WRITE = f"for i in $(seq 20000); do echo {MARK}; done"


def with_mark(cloud: Cloud) -> list[Path]:
    """The files of the state directory in which the mark is."""

    def has(path: Path) -> bool:
        before, mark = b"", MARK.encode()
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                if mark in before + chunk:
                    return True
                before = chunk[-len(mark) :]
        return False

    return [path for path in cloud.state.rglob("*") if path.is_file() and not path.is_symlink() and has(path)]


def format_and_write(guest: Guest, disk: str) -> str:
    made = f"mkfs.ext4 -q /dev/{disk} && mkdir -p /mnt && mount -t ext4 /dev/{disk} /mnt"
    return guest.ssh(f"{made} && {WRITE} >/mnt/file; sync; sha256sum </mnt/file", timeout=300)


def read(guest: Guest, disk: str, file: str = "file") -> str:
    look = f"mkdir -p /mnt && mount -t ext4 /dev/{disk} /mnt && sha256sum </mnt/{file}; umount /mnt"
    return guest.ssh(look, timeout=120)


def encrypted_volume(account: Account, **of) -> str:
    zone = volumes.zone(account)
    made = account.ec2.create_volume(AvailabilityZone=zone, VolumeType="gp3", Encrypted=True, **of)
    assert made["Encrypted"] and made["KmsKeyId"].startswith("arn:aws:kms:")
    account.ec2.get_waiter("volume_available").wait(VolumeIds=[made["VolumeId"]], WaiterConfig=FAST)
    return made["VolumeId"]


def restored(account: Account, snapshot: str, guest: Guest) -> str:
    volume = encrypted_volume(account, SnapshotId=snapshot)
    attach(account, volume, guest.id, "/dev/sdg")
    try:
        return read(guest, wait_disk(guest, volume))
    finally:
        detach(account, volume)


def taken(account: Account, volume: str) -> str:
    made = account.ec2.create_snapshot(VolumeId=volume)
    assert made["Encrypted"]
    wait_completed(account, made["SnapshotId"])
    return made["SnapshotId"]


def test_what_is_on_an_encrypted_volume_is_in_no_file_of_the_host(pair):
    account, one, two = pair
    cloud, ec2 = account.cloud, account.ec2
    plain = volumes.create(account)
    attach(account, plain, one.id, "/dev/sdh")
    assert not with_mark(cloud)
    format_and_write(one, wait_disk(one, plain))
    one.ssh("umount /mnt")
    (found,) = with_mark(cloud)
    assert plain in found.name, "the search finds what is not encrypted"
    # An encrypted volume of a plain snapshot: from then on nothing of it is plain.
    snapshot = ec2.create_snapshot(VolumeId=plain)["SnapshotId"]
    wait_completed(account, snapshot)
    expected = one.ssh(f"{WRITE} | sha256sum")
    assert restored(account, snapshot, two) == expected
    # And an encrypted copy of it, for which a host encrypts what is plain.
    region = ec2.meta.region_name
    anew = ec2.copy_snapshot(SourceRegion=region, SourceSnapshotId=snapshot, Encrypted=True)["SnapshotId"]
    assert wait_completed(account, anew)["Encrypted"]
    assert restored(account, anew, two) == expected
    with refused("InvalidParameterValue"):
        ec2.create_volume(AvailabilityZone=volumes.zone(account), Size=1, Encrypted=True, KmsKeyId="alias/mine")
    detach(account, plain)
    ec2.delete_volume(VolumeId=plain)
    for plain_or_not in (snapshot, anew):
        ec2.delete_snapshot(SnapshotId=plain_or_not)
    volumes.delete_all(account)
    cloud.wait_clean()
    # Its segment goes with the next sweep, which is not waited for.
    for segment in cloud.state.glob("snapshots/segments/*"):
        segment.write_bytes(b"")

    volume = encrypted_volume(account, Size=1)
    attach(account, volume, one.id)
    written = format_and_write(one, wait_disk(one, volume))
    running = taken(account, volume)
    ec2.modify_volume(VolumeId=volume, Size=2)
    one.ssh("umount /mnt", timeout=60)
    # The guest is started anew, by a cloud that has forgotten the keys that its hosts had.
    one.hang_up()
    ec2.stop_instances(InstanceIds=[one.id])
    one.wait_state("stopped")
    cloud.kill()
    cloud.start()
    ec2.start_instances(InstanceIds=[one.id])
    one.wait_ssh()
    assert read(one, wait_disk(one, volume)) == written
    detach(account, volume)
    still = taken(account, volume)
    attach(account, volume, two.id)
    assert read(two, wait_disk(two, volume)) == written
    detach(account, volume)
    ec2.delete_volume(VolumeId=volume)
    for snapshot in (running, still):
        assert restored(account, snapshot, two) == written
    copy = ec2.copy_snapshot(SourceRegion=ec2.meta.region_name, SourceSnapshotId=still)["SnapshotId"]
    ec2.delete_snapshot(SnapshotId=still)
    assert restored(account, copy, two) == written
    assert not with_mark(cloud)
    assert not list(cloud.state.rglob("*.copy")) + list(cloud.state.rglob("*.nbd"))


def test_roots_are_encrypted_where_the_account_has_it_so(pair):
    account, one, two = pair
    cloud, ec2 = account.cloud, account.ec2
    assert ec2.enable_ebs_encryption_by_default()["EbsEncryptionByDefault"]
    (fresh,) = launch(account, two.key, "k")
    mappings = fresh.describe()["BlockDeviceMappings"]
    (root,) = ec2.describe_volumes(VolumeIds=[mappings[0]["Ebs"]["VolumeId"]])["Volumes"]
    assert root["Encrypted"]
    written = fresh.wait_ssh().ssh(f"{WRITE} >/root/file; sync; sha256sum </root/file", timeout=120)
    images = []
    for name, still in (("live", True), ("in good order", False)):
        fresh.hang_up()
        image = ec2.create_image(InstanceId=fresh.id, Name=name, NoReboot=still)["ImageId"]
        ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig=FAST)
        images.append(image)
        (mapping,) = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
        assert mapping["Ebs"]["Encrypted"]
    with refused("InvalidParameter"):
        ec2.modify_image_attribute(ImageId=images[0], LaunchPermission={"Add": [{"Group": "all"}]})
    kept = volumes.keep_root(account, fresh.id)
    terminate(account, fresh)
    wait_free(account, kept)
    attach(account, kept, two.id)
    partition = f"{wait_disk(two, kept)}2"
    assert read(two, partition, "root/file") == written, "it outlives its instance, encrypted as it was"
    detach(account, kept)
    ec2.delete_volume(VolumeId=kept)
    for image in images:
        (made,) = launch(account, two.key, "k", ImageId=image)
        assert made.wait_ssh().ssh("sha256sum </root/file") == written
        made.hang_up()
        ec2.stop_instances(InstanceIds=[made.id])
        made.wait_state("stopped")
        root = made.describe()["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        still = taken(account, root)
        ec2.start_instances(InstanceIds=[made.id])
        assert made.wait_ssh().ssh("sha256sum </root/file") == written
        terminate(account, made)
        ec2.delete_snapshot(SnapshotId=still)
    assert not with_mark(cloud)
    for image in images:
        ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    ec2.disable_ebs_encryption_by_default()
    cloud.wait_clean()

"""Volumes in tests: made, attached, looked for in guests and on their hosts."""

from pathlib import Path

from botocore.exceptions import ClientError

from .cloud import Account, Cloud
from .ec2 import FAST, error_of
from .guest import Guest
from .wait import until


def zone(account: Account) -> str:
    return account.ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]


def create(account: Account, gib: int = 1, **more) -> str:
    """A volume that is available; its id."""
    made = account.ec2.create_volume(AvailabilityZone=zone(account), Size=gib, **more)["VolumeId"]
    account.ec2.get_waiter("volume_available").wait(VolumeIds=[made], WaiterConfig=FAST)
    return made


def describe(account: Account, id: str) -> dict:
    return account.ec2.describe_volumes(VolumeIds=[id])["Volumes"][0]


def attached_to(account: Account, id: str) -> tuple[str, str] | None:
    """The instance that a volume is attached to, and how the attachment is."""
    found = describe(account, id)["Attachments"]
    return (found[0]["InstanceId"], found[0]["State"]) if found else None


def is_gone(account: Account, id: str) -> bool:
    return state(account, id) == "gone"


def state(account: Account, id: str) -> str:
    """The state of a volume, by one look; `gone` where there is none."""
    try:
        return describe(account, id)["State"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidVolume.NotFound":
            raise
        return "gone"


def wait_attached(account: Account, id: str, instance: str, timeout: float = 60.0) -> None:
    until(lambda: attached_to(account, id) == (instance, "attached"), f"{id} is attached to {instance}", timeout, every=0.1)


def wait_free(account: Account, id: str, timeout: float = 90.0) -> None:
    until(lambda: describe(account, id)["State"] == "available", f"{id} is free", timeout, every=0.1)


def wait_gone(account: Account, id: str, timeout: float = 60.0) -> None:
    until(lambda: is_gone(account, id), f"{id} is deleted", timeout, every=0.1)


def modification(account: Account, id: str) -> dict:
    """The last modification of a volume."""
    return account.ec2.describe_volumes_modifications(VolumeIds=[id])["VolumesModifications"][0]


def wait_modified(account: Account, id: str, state: str = "completed", timeout: float = 60.0) -> dict:
    until(lambda: modification(account, id)["ModificationState"] == state, f"{id} is modified", timeout, every=0.1)
    return modification(account, id)


def attach(account: Account, id: str, instance: str, device: str = "/dev/sdf") -> None:
    account.ec2.attach_volume(VolumeId=id, InstanceId=instance, Device=device)
    wait_attached(account, id, instance)


def detach(account: Account, id: str) -> None:
    account.ec2.detach_volume(VolumeId=id)
    wait_free(account, id)


def keep_root(account: Account, instance: str) -> str:
    """The root of an instance, which outlives it from now on."""
    described = account.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    (root,) = [one for one in described["BlockDeviceMappings"] if one["DeviceName"] == described["RootDeviceName"]]
    kept = {"DeviceName": root["DeviceName"], "Ebs": {"DeleteOnTermination": False}}
    account.ec2.modify_instance_attribute(InstanceId=instance, BlockDeviceMappings=[kept])
    return root["Ebs"]["VolumeId"]


def delete_all(account: Account) -> None:
    """Every volume that no instance starts from, once it is free."""
    pages = account.ec2.get_paginator("describe_volumes").paginate()
    found = [volume for page in pages for volume in page["Volumes"]]
    data = [v for v in found if not any(a["DeleteOnTermination"] for a in v["Attachments"])]
    ids = [v["VolumeId"] for v in data if v["State"] != "deleting"]
    for id in ids:
        if attached_to(account, id):
            error_of(account.ec2.detach_volume, VolumeId=id)
    for id in ids:
        wait_free(account, id)
        account.ec2.delete_volume(VolumeId=id)
    for volume in data:
        wait_gone(account, volume["VolumeId"])


def snapshots_of(account: Account, volume: str) -> list[dict]:
    pages = account.ec2.get_paginator("describe_snapshots").paginate(
        OwnerIds=["self"], Filters=[{"Name": "volume-id", "Values": [volume]}]
    )
    return [snapshot for page in pages for snapshot in page["Snapshots"]]


def wait_completed(account: Account, snapshot: str) -> dict:
    """The snapshot, once it is taken."""
    account.ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig=FAST)
    return account.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]


def files(cloud: Cloud) -> list[Path]:
    """Volumes' files on the cloud's hosts."""
    return sorted(cloud.state.glob("hosts/*/volumes/*"))


def delete_snapshots(account: Account) -> None:
    for snapshot in account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]:
        account.ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])


def disk_in(guest: Guest, volume: str) -> str:
    """What the guest calls the disk that has the volume's serial number; empty where it has none."""
    serial = volume.replace("-", "")
    look = f'for b in /sys/block/vd*; do [ "$(cat $b/serial)" = {serial} ] && echo ${{b##*/}}; done; true'
    return guest.ssh(look)


def wait_disk(guest: Guest, volume: str, timeout: float = 60.0) -> str:
    return until(lambda: disk_in(guest, volume), f"{guest.id} sees {volume}", timeout, every=0.5)


def mount(guest: Guest, volume: str, options: str = "rw") -> None:
    """A volume's file system, at /mnt."""
    guest.ssh(f"mkdir -p /mnt && mount -t ext4 -o {options} /dev/{wait_disk(guest, volume)} /mnt", timeout=120)


def mounted(guest: Guest, volume: str, command: str, options: str = "rw") -> str:
    """What a command says while the volume is mounted on /mnt."""
    mount(guest, volume, options)
    try:
        return guest.ssh(command, timeout=120)
    finally:
        guest.ssh("sync; umount /mnt", timeout=120)


def begin_counting(guest: Guest) -> int:
    """Has a guest count in /mnt/counter, each number flushed, until there is a /tmp/stop; how far it is."""
    loop = "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i >/mnt/.new; sync; mv /mnt/.new /mnt/counter; sync; done"
    return int(guest.ssh(f"echo '{loop}' >/tmp/loop; (sh /tmp/loop </dev/null >/dev/null 2>&1 &); sleep 1; cat /mnt/counter"))

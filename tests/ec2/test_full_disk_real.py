"""Disks that are full, with a real guest: the store of snapshots, that of images, and the host's own. What fails says why
and leaves nothing, and works when there is room."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness import volumes
from harness.cloud import Account, Cloud
from harness.guest import Guest, launch, shell_key, terminate
from harness.volumes import attach, attached_to, wait_completed, wait_disk
from harness.wait import until

pytestmark = pytest.mark.one_process

# MiB of each store: the tiny image is in that of images and, with guests' disks, on the host, which tells whole GiB.
ROOM = {"snapshots": 200, "images": 48, "hosts": 2048}
FULL = "the store of snapshots is full"


def resize(store: Path, mib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={mib}m", str(store)], check=True)


def files(store: Path) -> dict[str, int]:
    """Everything in a store, with its size."""
    return {str(path.relative_to(store)): path.stat().st_size for path in store.rglob("*") if path.is_file()}


@contextmanager
def small_stores(cloud: Cloud) -> Iterator[None]:
    """Each store is a file system of its own, from before the cloud starts until it has ended."""
    with ExitStack() as mounted:
        mounted.callback(shutil.rmtree, cloud.home, ignore_errors=True)
        for name, mib in ROOM.items():
            store = cloud.state / name
            store.mkdir(mode=0o711, parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=711", "tmpfs", str(store)], check=True)
            mounted.callback(subprocess.run, ["umount", "-l", str(store)], check=True)
        yield


@pytest.fixture(scope="module")
def small(real):
    cloud = Cloud("libvirt", "[libvirt]\nstop_grace = 5\n[scheduler]\ndisk_allocation_ratio = 100.0\n")
    with small_stores(cloud), cloud:
        yield cloud


@pytest.fixture
def guest(small: Cloud, key_folder: Path):
    """A guest with a shell."""
    account = small.account()
    key = shell_key(account, key_folder)
    (made,) = launch(account, key, "k")
    yield made.wait_ssh()
    terminate(account, made)
    volumes.delete_all(account)
    volumes.delete_snapshots(account)


def copies(cloud: Cloud) -> list[Path]:
    """What snapshots are taken of."""
    return [*cloud.state.glob("hosts/**/*.copy")]


@contextmanager
def filled(store: Path, left: int) -> Iterator[None]:
    """A store in which so many MiB are free."""
    has = os.statvfs(store)
    used = (has.f_blocks - has.f_bfree) * has.f_frsize >> 20
    resize(store, used + left)
    try:
        yield
    finally:
        resize(store, ROOM[store.name])


def written(account: Account, guest: Guest, mib: int) -> str:
    """A volume of the guest's with so much noise in it."""
    volume = volumes.create(account)
    attach(account, volume, guest.id)
    guest.ssh(f"head -c {mib << 20} /dev/urandom >/dev/{wait_disk(guest, volume)}; sync", timeout=120)
    return volume


def wait_error(account: Account, snapshot: str) -> str:
    """Waits for a snapshot to fail; the reason."""

    def failed() -> str:
        (found,) = account.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
        assert found["State"] == "error", found["State"]
        return found["StateMessage"]

    return until(failed, f"{snapshot} fails", 180)


def attaches(account: Account, volume: str, guest: Guest) -> bool:
    """Whether a volume comes to a guest that asks for it now."""
    account.ec2.attach_volume(VolumeId=volume, InstanceId=guest.id, Device="/dev/sdg")
    states = ((guest.id, "attached"), None)
    until(lambda: attached_to(account, volume) in states, f"{volume} is attached or free", 180)
    return attached_to(account, volume) is not None


def test_a_snapshot_for_which_the_store_has_no_room_says_so_and_leaves_nothing(small: Cloud, guest: Guest):
    account, store = guest.account, small.state / "snapshots"
    volume, before = written(account, guest, 16), files(store)
    with filled(store, 8):
        failed = account.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        assert FULL in wait_error(account, failed)
        assert files(store) == before
        assert not copies(small)
        small.wait_clean()

    taken = account.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    wait_completed(account, taken)
    kept = files(store)
    # An encrypted copy is written anew.
    copy = {"SourceRegion": "us-east-1", "SourceSnapshotId": taken, "Encrypted": True}
    with filled(store, 8):
        failed = account.ec2.copy_snapshot(**copy)["SnapshotId"]
        assert FULL in wait_error(account, failed)
        assert files(store) == kept
        small.wait_clean()
    wait_completed(account, account.ec2.copy_snapshot(**copy)["SnapshotId"])
    assert guest.ssh("echo here") == "here"


def test_a_host_that_is_full_has_neither_copies_nor_volumes_that_are_half(small: Cloud, guest: Guest):
    account = guest.account
    volume = written(account, guest, 16)
    taken = account.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    wait_completed(account, taken)
    zone = volumes.zone(account)
    of = account.ec2.create_volume(AvailabilityZone=zone, SnapshotId=taken, VolumeType="gp3")["VolumeId"]
    with filled(small.state / "hosts", 4):
        # Refused, or begun and given up: by whether the host has told meanwhile that it is full.
        assert not attaches(account, of, guest)
        assert not [*small.state.glob(f"hosts/*/volumes/{of}*")]
        # What the guest has is copied before it is brought.
        failed = account.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        assert "the disk is full" in wait_error(account, failed)
        assert not copies(small)
        assert guest.ssh("echo here") == "here"
    small.wait_clean()
    until(lambda: attaches(account, of, guest), "the host tells that it has room", 60)
    one, other = (wait_disk(guest, each) for each in (volume, of))
    assert guest.ssh(f"cmp /dev/{one} /dev/{other} && echo same", timeout=120) == "same"
    wait_completed(account, account.ec2.create_snapshot(VolumeId=of)["SnapshotId"])


@pytest.mark.parametrize("format", ["raw", "qcow2", "vmdk"])
def test_an_import_for_which_the_store_has_no_room_says_so_and_leaves_nothing(small: Cloud, tmp_path: Path, format: str):
    store, noise, disk = small.state / "images", tmp_path / "noise.raw", tmp_path / f"disk.{format}"
    noise.write_bytes(os.urandom(64 << 20))
    subprocess.run(["qemu-img", "convert", "-O", format, str(noise), str(disk)], check=True)
    before = files(store)
    words = ("image", "import", "--name", f"large-{format}", "--format", format, str(disk))
    done = small.execute(*words)
    assert done.returncode == 1 and "No space left on device" in done.stderr, done.stderr
    assert files(store) == before
    resize(store, 256)
    try:
        id = small.run(*words)
        small.run("image", "delete", id)
    finally:
        resize(store, ROOM["images"])
    assert files(store) == before

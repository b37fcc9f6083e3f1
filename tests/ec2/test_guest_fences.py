"""What of a running cloud others on its host see: its files, guests' processes and DHCP servers, with a real guest."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from harness import volumes
from harness.cloud import Cloud
from harness.guest import launch, ssh_key, terminate
from harness.machines import command_line
from harness.wait import until

NOBODY, DHCP = 65534, 1_900_000_000

pytestmark = pytest.mark.one_process


def as_user(uid: int, gid: int, *command: object) -> subprocess.CompletedProcess:
    """A command as another user, without any group beside its own."""
    who = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    return subprocess.run([*who, "--", *map(str, command)], capture_output=True, text=True, cwd="/", timeout=60)


def seen_by(uid: int, gid: int, folder: Path) -> list[str]:
    """What a user may read or write in a folder, and in all that it gets to by names that it knows."""
    found = []
    for path in [folder, *folder.rglob("*")]:
        if path.is_symlink():
            continue
        for what in ("-r", "-w"):
            if as_user(uid, gid, "test", what, path).returncode == 0:
                found.append(f"{what} {path.relative_to(folder)}")
    return found


def guests_of(cloud: Cloud) -> dict[str, int]:
    """The processes of the cloud's guests, by instance."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        words = command_line(int(folder.name))
        name = re.search(r"guest=(i-[0-9a-f]{17})", " ".join(words))
        if words and "qemu-system" in words[0] and name and str(cloud.state) in " ".join(words):
            found[name[1]] = int(folder.name)
    return found


def ids_of(pid: int) -> tuple[int, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    uids, gids = (re.search(rf"^{name}:(.*)$", status, re.M)[1].split() for name in ("Uid", "Gid"))
    assert len(set(uids)) == 1 and len(set(gids)) == 1
    return int(uids[0]), int(gids[0])


def test_nobody_else_sees_anything_of_a_running_cloud(real_cloud: Cloud, key_folder):
    account = real_cloud.account()
    key, public = ssh_key(key_folder)
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    guests = launch(account, key, "k", 2)
    for guest in guests:
        guest.wait_console("cumulet-tiny ready")
    state = real_cloud.state
    assert seen_by(NOBODY, NOBODY, state) == []
    # A DHCP server has its own files, and sees nothing else.
    theirs = seen_by(DHCP, DHCP, state)
    assert theirs and all(re.fullmatch(r"-[rw] run/network/vpc-[0-9a-f]{17}(/.*)?", line) for line in theirs), theirs
    assert not any(line.startswith("-w") and "/own" not in line for line in theirs), theirs
    # Each guest runs as a user of its own, who gets to its own disk and to no other.
    running = guests_of(real_cloud)
    who = {guest.id: ids_of(running[guest.id]) for guest in guests}
    (one, two) = who.values()
    assert one[0] != two[0] and 0 not in (one[0], two[0]) and DHCP not in (one[0], two[0])
    disks = {guest.id: next(state.glob(f"hosts/*/instances/{guest.id}/disk.qcow2")) for guest in guests}
    for guest in guests:
        for other in guests:
            may = as_user(*who[guest.id], "test", "-r", disks[other.id]).returncode == 0
            assert may == (guest is other), (guest.id, other.id)
        mine = seen_by(*who[guest.id], state)
        allowed = rf"-r hosts/[^/]+/cache/[0-9a-f]{{64}}|-[rw] hosts/[^/]+/instances/{guest.id}/disk\.qcow2"
        assert all(re.fullmatch(allowed, line) for line in mine), mine
        domain = subprocess.run(["virsh", "dumpxml", guest.id], capture_output=True, text=True, check=True).stdout
        assert "total_iops_sec" in domain and f"+{who[guest.id][0]}:+{who[guest.id][1]}" in domain
    # Whoever needs what of the host, the host's null device is nobody's.
    null = os.stat("/dev/null")
    assert (null.st_uid, null.st_gid, stat.S_IMODE(null.st_mode)) == (0, 0, 0o666)
    # A stop and a start: the disk is the same guest's.
    guest = guests[0]
    account.ec2.stop_instances(InstanceIds=[guest.id], Force=True)
    guest.wait_state("stopped")
    # With what snapshots, copies and encrypted volumes have left, too.
    volume = volumes.create(account, 1, Encrypted=True)
    volumes.attach(account, volume, guests[1].id)
    for source in (volume, guest.describe()["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]):
        volumes.wait_completed(account, account.ec2.create_snapshot(VolumeId=source)["SnapshotId"])
    kinds = {path.parts[-2] for path in state.rglob("*") if path.is_file()}
    assert {"volumes", "segments", "manifests"} <= kinds, kinds
    assert seen_by(NOBODY, NOBODY, state) == []
    account.ec2.start_instances(InstanceIds=[guest.id])
    guest.wait_state("running")
    assert ids_of(guests_of(real_cloud)[guest.id]) == who[guest.id]
    terminate(account, *guests)
    volumes.delete_all(account)
    volumes.delete_snapshots(account)


def owner(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def test_a_volume_is_readable_by_the_guest_that_has_it_and_by_nobody_else(real_cloud: Cloud, key_folder):
    """Also after it has moved to another guest of the host, and after that one has gone."""
    account = real_cloud.account()
    key, public = ssh_key(key_folder)
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    guests = launch(account, key, "k", 2)
    for guest in guests:
        guest.wait_console("cumulet-tiny ready")
    volume = volumes.create(account)
    assert volumes.files(real_cloud) == [], "none before there is somewhere to be"
    state, running = real_cloud.state, guests_of(real_cloud)
    who = {guest.id: ids_of(running[guest.id]) for guest in guests}
    one, two = guests

    def readers(file: Path) -> list[str]:
        assert seen_by(NOBODY, NOBODY, state) == []
        return [g.id for g in guests if as_user(*who[g.id], "test", "-r", file).returncode == 0]

    for guest in (one, two):
        volumes.attach(account, volume, guest.id)
        (file,) = volumes.files(real_cloud)
        assert owner(file) == (*who[guest.id], 0o600)
        assert readers(file) == [guest.id]
        allowed = rf"-r hosts/[^/]+/cache/[0-9a-f]{{64}}|-[rw] hosts/[^/]+/(instances/{guest.id}/disk\.qcow2|volumes/{volume}\.raw)"
        mine = seen_by(*who[guest.id], state)
        assert all(re.fullmatch(allowed, line) for line in mine), mine
        volumes.detach(account, volume)
        assert owner(file) == (0, 0, 0o600) and readers(file) == []
    volumes.attach(account, volume, two.id)
    terminate(account, two)
    volumes.wait_free(account, volume)
    assert owner(file) == (0, 0, 0o600) and readers(file) == []
    # What a guest's user has been left with, by whatever went wrong, is taken back at the next start.
    os.chown(file, *who[one.id])
    real_cloud.restart()
    until(lambda: owner(file) == (0, 0, 0o600), "the volume's file is root's again")
    assert readers(file) == []
    terminate(account, one)
    account.ec2.delete_volume(VolumeId=volume)
    volumes.wait_gone(account, volume)
    assert volumes.files(real_cloud) == []

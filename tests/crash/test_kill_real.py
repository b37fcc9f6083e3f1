"""The same with real guests, at the steps where something real is half done; and a guest that runs through it all."""

import signal
from pathlib import Path

import pytest

from harness.cloud import Cloud
from harness.crash import dies, settled
from harness.ec2 import default_group, instances
from harness.guest import allow, launch, reachable, ssh_key, terminate


@pytest.fixture
def cloud(real, crash_binary: Path):
    with Cloud("libvirt", "[libvirt]\nstop_grace = 20\n", binary=crash_binary) as cloud:
        yield cloud


def test_a_guest_runs_through_every_death(cloud: Cloud, key_folder: Path):
    account = cloud.first_account()
    key, public = ssh_key(key_folder)
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    allow(account, default_group(account.ec2), "tcp", (22, 22))
    (witness,) = launch(account, key, "k")
    witness.wait_ssh()
    boot, uptime = witness.ssh("cat /proc/sys/kernel/random/boot_id"), witness.uptime()
    before = witness.describe()

    def untouched() -> None:
        nonlocal uptime
        witness.hang_up()
        assert witness.ssh("cat /proc/sys/kernel/random/boot_id") == boot
        now = witness.uptime()
        assert now > uptime
        uptime = now
        assert witness.ssh("imds latest/meta-data/instance-id") == witness.id
        assert witness.describe() == before

    for point in ("run.7.image", "run.8.disk", "run.11.tap", "run.14.defined", "run.12.firewall", "run.15.started"):
        dies(cloud, point, lambda: launch(account, key, "k"))
        settled(account, {"running", "terminated"})
        untouched()
    cloud.wait_clean()
    guests = [i["InstanceId"] for i in instances(account.ec2) if i["State"]["Name"] == "running"]
    others = [id for id in guests if id != witness.id]
    assert len(others) == 6, "every launch that was accepted has got through"

    # While the process is away, guests and their packets go on.
    cloud.process.send_signal(signal.SIGKILL)
    cloud.wait_death()
    address = before["PublicIpAddress"]
    assert reachable(address, 22)
    cloud.start()

    for point, id in zip(("destroy.1.received", "destroy.2.absent", "destroy.3.network", "destroy.5.disk", "destroy.6.reported"), others):
        dies(cloud, point, lambda: account.ec2.terminate_instances(InstanceIds=[id]))
        settled(account, {"running", "terminated"})
        untouched()
    cloud.wait_clean()
    terminate(account, witness)
    cloud.wait_clean()

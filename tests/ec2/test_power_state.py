"""The state follows the guest: what powers itself off is stopped, or terminated, within seconds and with its reason."""

import pytest

from harness.cloud import Cloud
from harness.ec2 import default_group, instance
from harness.guest import allow, launch, ssh_key, terminate


@pytest.fixture
def account(real_cloud: Cloud):
    account = real_cloud.account()
    allow(account, default_group(account.ec2), "tcp", (22, 22))
    return account


def power_off(guest) -> None:
    guest.ssh("(sleep 0.2; poweroff) >/dev/null 2>&1 &")
    guest.hang_up()


def test_a_guest_that_powers_itself_off(account, key_folder):
    key, public = ssh_key(key_folder)
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    (stays,) = launch(account, key, "k")
    (goes,) = launch(account, key, "k", InstanceInitiatedShutdownBehavior="terminate")
    for guest in (stays, goes):
        guest.wait_ssh()
    for guest in (stays, goes):
        power_off(guest)
    seen = stays.wait_state("stopped", 45)
    assert seen["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown", seen["StateReason"]
    seen = goes.wait_state("terminated", 45)
    assert seen["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown", seen["StateReason"]
    # It is stopped as any other: it can be started, and is itself again.
    account.ec2.start_instances(InstanceIds=[stays.id])
    stays.wait_ssh()
    assert "StateReason" not in instance(account.ec2, stays.id)
    terminate(account, stays)
    account.cloud.wait_clean()

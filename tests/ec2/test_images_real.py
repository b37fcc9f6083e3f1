"""Images with real guests: what one has written is there in those that are launched from an image of it, whether it was
stopped or went on, and from a copy whose source is gone with its snapshots."""

import pytest

from harness.cloud import Account
from harness.ec2 import FAST, refused
from harness.guest import BOOT, Guest, launch, terminate
from harness.wait import until

pytestmark = pytest.mark.one_process

SUM = "sha256sum </root/file"


def create(account: Account, guest: Guest, name: str, **more) -> str:
    made = account.ec2.create_image(InstanceId=guest.id, Name=name, **more)["ImageId"]
    account.ec2.get_waiter("image_available").wait(ImageIds=[made], WaiterConfig=FAST)
    return made


def seen_in(account: Account, guest: Guest, image: str, look: str) -> str:
    """What a command says in a guest that is launched from an image, with the key of another guest."""
    (fresh,) = launch(account, guest.key, "k", ImageId=image)
    try:
        return fresh.wait_ssh().ssh(look)
    finally:
        terminate(account, fresh)


def test_what_a_guest_has_written_is_in_its_image(pair):
    account, one, two = pair
    ec2 = account.ec2
    written = one.ssh(f"head -c 5000000 /dev/urandom >/root/file; sync; {SUM}", timeout=120)

    # The guest goes on.
    live = create(account, one, "live", NoReboot=True)
    assert one.state == "running"
    assert seen_in(account, one, live, SUM) == written

    # And of one that is stopped; an image of an instance of an image is whole, too.
    one.hang_up()
    ec2.stop_instances(InstanceIds=[one.id])
    one.wait_state("stopped")
    still = create(account, one, "still")
    copy = ec2.copy_image(Name="copy", SourceImageId=still, SourceRegion=ec2.meta.region_name)["ImageId"]
    ended = ec2.deregister_image(ImageId=still, DeleteAssociatedSnapshots=True)["DeleteSnapshotResults"]
    assert [each["ReturnCode"] for each in ended] == ["success"]
    terminate(account, one)
    (fresh,) = launch(account, two.key, "k", ImageId=copy)
    assert fresh.wait_ssh().ssh(SUM) == written
    more = fresh.ssh("echo more >/root/more; sync; cat /root/more")
    again = create(account, fresh, "again", NoReboot=True)
    # What an instance is made of stays while it is there.
    for image in (live, copy):
        ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    fresh.hang_up()
    ec2.stop_instances(InstanceIds=[fresh.id])
    fresh.wait_state("stopped")
    ec2.start_instances(InstanceIds=[fresh.id])
    assert fresh.wait_ssh().ssh(SUM) == written
    assert seen_in(account, two, again, f"cat /root/more; {SUM}").split("\n") == [more, written]
    terminate(account, fresh)
    ec2.deregister_image(ImageId=again, DeleteAssociatedSnapshots=True)
    account.cloud.wait_clean()


def test_a_guest_is_off_while_its_image_is_made_and_comes_back(pair):
    account, one, _ = pair
    before, boot = one.describe(), one.ssh("cat /proc/sys/kernel/random/boot_id")
    # Written and not flushed: a guest that goes off in good order flushes it.
    written = one.ssh(f"head -c 5000000 /dev/urandom >/root/file; {SUM}", timeout=120)
    one.hang_up()
    made = account.ec2.create_image(InstanceId=one.id, Name="in good order")["ImageId"]
    with refused("IncorrectInstanceState"):
        account.ec2.create_image(InstanceId=one.id, Name="another")
    until(lambda: one.try_ssh("cat /proc/sys/kernel/random/boot_id") not in (None, boot), f"{one.id} is back", BOOT)
    account.ec2.get_waiter("image_available").wait(ImageIds=[made], WaiterConfig=FAST)
    after = one.describe()
    for name in ("State", "PublicIpAddress", "PrivateIpAddress", "LaunchTime"):
        assert after[name] == before[name], name
    assert one.wait_ssh().ssh(SUM) == written
    assert seen_in(account, one, made, SUM) == written
    account.ec2.deregister_image(ImageId=made, DeleteAssociatedSnapshots=True)

"""The main job, with real guests and the stock AWS CLI: from the key pair to `wait instance-terminated`."""

import json

import pytest

from harness import host
from harness.cloud import Cloud
from harness.ec2 import default_group
from harness.guest import BOOT, TINY_READY, Guest, allow, ssh_key
from harness.wait import until

USER_DATA = "#!/bin/sh\necho from-user-data $(hostname) >/root/proof\ndate +%s%N >>/root/runs\n"


@pytest.fixture
def cloud(real):
    """A cloud of its own, so that at its end nothing at all may be left of it on this machine."""
    with Cloud("libvirt", "[libvirt]\nstop_grace = 30\n") as cloud:
        yield cloud


def test_two_guests_from_launch_to_the_end(cloud: Cloud, key_folder):
    account = cloud.first_account()
    path, public = ssh_key(key_folder)
    data = key_folder / "user-data"
    data.write_text(USER_DATA)
    (key_folder / "id.pub").write_bytes(public)
    cloud.aws("ec2", "import-key-pair", "--key-name", "k", "--public-key-material", f"fileb://{key_folder}/id.pub")
    allow(account, default_group(account.ec2), "tcp", (22, 22))

    made = cloud.aws(
        "ec2", "run-instances", "--image-id", cloud.image, "--instance-type", "t2.nano", "--count", "2",
        "--key-name", "k", "--user-data", f"file://{data}",
    )  # fmt: skip
    guests = [Guest(account, i["InstanceId"], path) for i in made["Instances"]]
    ids = [guest.id for guest in guests]
    assert {i["State"]["Name"] for i in made["Instances"]} == {"pending"}
    cloud.aws("ec2", "wait", "instance-running", "--instance-ids", *ids)
    cloud.wait_clean()

    for guest in guests:
        seen = guest.describe()
        ready = f"{TINY_READY} instance-id={guest.id} address={seen['PrivateIpAddress']} hostname=ip-"
        assert ready in guest.wait_console(TINY_READY)
        name = seen["PrivateDnsName"].split(".")[0]
        guest.wait_ssh()
        assert guest.ssh("cat /root/proof") == f"from-user-data {name}", "user data ran, after the name was set"
        assert guest.ssh("ip -4 -o addr show dev eth0 | awk '{print $4}'").split("/")[0] == seen["PrivateIpAddress"]
    a_screen_can_be_seen(account.ec2, guests[0].id)

    stop_and_start(cloud, guests[0])
    reboot(guests[1])

    for guest in guests:
        guest.hang_up()
    cloud.aws("ec2", "terminate-instances", "--instance-ids", *ids)
    cloud.aws("ec2", "wait", "instance-terminated", "--instance-ids", *ids)
    rows = cloud.aws("ec2", "describe-instances", "--instance-ids", *ids, "--query", "Reservations[].Instances[].StateReason.Code")
    assert rows == ["Client.UserInitiatedShutdown"] * 2
    cloud.wait_clean()
    nothing_is_left(cloud)


def a_screen_can_be_seen(ec2, id: str) -> None:
    import base64

    assert base64.b64decode(ec2.get_console_screenshot(InstanceId=id)["ImageData"])[:2] == b"\xff\xd8", "a JPEG"


def stop_and_start(cloud: Cloud, guest: Guest) -> None:
    """Same private address, same disk; user data does not run again."""
    before = guest.describe()
    guest.ssh("echo kept >/root/kept; sync")
    guest.hang_up()
    cloud.aws("ec2", "stop-instances", "--instance-ids", guest.id)
    stopped = guest.wait_state("stopped")
    assert stopped["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert guest.try_ssh("true") is None
    cloud.aws("ec2", "start-instances", "--instance-ids", guest.id)
    after = guest.wait_state("running")
    assert after["PrivateIpAddress"] == before["PrivateIpAddress"]
    assert after["NetworkInterfaces"][0]["MacAddress"] == before["NetworkInterfaces"][0]["MacAddress"]
    guest.wait_ssh()
    assert guest.ssh("cat /root/kept") == "kept" and guest.uptime() < BOOT
    assert len(guest.ssh("cat /root/runs").splitlines()) == 1


def reboot(guest: Guest) -> None:
    """The guest starts over; nothing else of it changes."""
    before = guest.describe()
    boot = guest.ssh("cat /proc/sys/kernel/random/boot_id")
    guest.hang_up()
    guest.ec2.reboot_instances(InstanceIds=[guest.id])
    until(lambda: guest.try_ssh("cat /proc/sys/kernel/random/boot_id") not in (None, boot), "a new boot", BOOT, every=0.5)
    after = guest.describe()
    for name in ("PrivateIpAddress", "PublicIpAddress", "LaunchTime"):
        assert after[name] == before[name]
    assert after["State"]["Name"] == "running" and "from-user-data" in guest.ssh("cat /root/proof")


def nothing_is_left(cloud: Cloud) -> None:
    """While the cloud still runs: no guest, no namespace, no device, no file of an instance."""
    mark = cloud.mark
    assert host.domains(mark) == [] and host.links(mark) == []
    assert until(lambda: host.namespaces(mark) == [], "no namespace", 15)
    others = {pid: line for pid, line in host.processes(cloud.state).items() if pid not in cloud.pids and "audit" not in line}
    assert others == {}, others
    assert list(cloud.state.glob("hosts/*/instances/*")) == []
    uplinks = {"cv" + host.short(vpc["VpcId"]) for vpc in cloud.client().describe_vpcs()["Vpcs"]}
    routes = json.loads(host.command("ip", "-j", "route", "show"))
    assert [route for route in routes if route.get("dev") in uplinks] == []

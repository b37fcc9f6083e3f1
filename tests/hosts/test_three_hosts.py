"""Three hosts with real guests: what spans hosts, and what holds when a host, its libvirt, a guest's program, the wire
or the whole control plane fails. One cloud for all; the tests run in their order, the one that loses a host last."""

import os
import signal
import time
from dataclasses import dataclass

import pytest

from harness import figures, volumes
from harness.cloud import TINY, Account
from harness.ec2 import default_group, instance, running
from harness.guest import FAST, allow, ssh_key
from harness.machines import Machines, signal_all
from harness.site import GuestOn, Site
from harness.wait import until

# How long a partition lasts at least.
CUT = float(os.environ.get("CUMULET_FAULT_SECONDS", "45"))
# A host that says nothing for so long is not alive; what a host may take to be seen again.
SILENCE, SEEN = (20.0, 60.0), 60.0

SUM = "sha256sum </mnt/file"

# Serves the instance's own id.
SERVER = """#!/bin/sh
imds latest/meta-data/instance-id >/tmp/id
for port in 8080 8081 8082; do
    (while :; do nc -l -p $port </tmp/id >/dev/null 2>&1; done) &
done
"""


@dataclass
class Net:
    """Three guests of one account, each on a host of its own, and a stranger's guest with the second one's address."""

    site: Site
    account: Account
    guests: list[GuestOn]
    other: GuestOn
    web: str
    friends: str

    @property
    def all(self) -> list[GuestOn]:
        return [*self.guests, self.other]


# Each host has its own libvirt; the machine's is not used.
@pytest.fixture(scope="module")
def site():
    assert os.geteuid() == 0, "hosts need root"
    assert TINY.exists(), f"{TINY} is not built (tests/guests/tiny/build)"
    with Machines(3) as machines:
        roots = [machine.root for machine in machines]
        with Site(machines) as site:
            yield site
    assert machines.left() == [] and not [root for root in roots if root.exists()]


@pytest.fixture(scope="module")
def net(site: Site, tmp_path_factory):
    key, public = ssh_key(tmp_path_factory.mktemp("keys"))
    account, stranger = site.account(), site.account()
    for each in (account, stranger):
        each.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    ec2 = account.ec2
    group = lambda name: ec2.create_security_group(GroupName=name, Description="d")["GroupId"]  # noqa: E731
    admin, web, friends = group("admin"), group("web"), group("friends")
    allow(account, admin, "tcp", (22, 22))
    allow(account, web, "icmp", (-1, -1), "172.31.0.0/16")
    ec2.authorize_security_group_ingress(GroupId=web, IpPermissions=[of_group(web, 8082)])
    ec2.create_placement_group(GroupName="apart", Strategy="spread")
    apart = {"Placement": {"GroupName": "apart"}, "UserData": SERVER}
    guests = site.launch(account, key, 1, SecurityGroupIds=[admin, web, friends], **apart)
    guests += site.launch(account, key, 2, SecurityGroupIds=[admin, web], **apart)
    mine = default_group(stranger.ec2)
    allow(stranger, mine, "tcp", (22, 22))
    for protocol, ports in (("tcp", (8080, 8082)), ("icmp", (-1, -1))):
        allow(stranger, mine, protocol, ports, "172.31.0.0/16")
    (other,) = site.launch(stranger, key, UserData=SERVER, PrivateIpAddress=guests[1].private)
    net = Net(site, account, guests, other, web, friends)
    for guest in net.all:
        guest.wait_state("running")
    for guest in net.all:
        guest.wait_ssh()
    yield net
    for guest in net.all:
        guest.hang_up()


def of_group(group: str, port: int) -> dict:
    """Lets members of a group connect to a port."""
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "UserIdGroupPairs": [{"GroupId": group}]}


def answer(guest: GuestOn, address: str, port: int) -> str:
    """What a server says to a guest; nothing when it doesn't."""
    # The input stays open for a while: with its end busybox's nc leaves.
    return guest.ssh(f"sleep 1 | timeout 3 nc -w 3 {address} {port} 2>/dev/null; true")


def metadata(guest: GuestOn, token: str = "") -> str:
    """The instance's id as its metadata has it, by this session or by a new one."""
    return guest.ssh(f"IMDS_TOKEN={token} imds latest/meta-data/instance-id; true")


def leased(guest: GuestOn) -> bool:
    """A whole DHCP exchange, that changes nothing in the guest."""
    return guest.ssh("udhcpc -i eth0 -s /bin/true -n -q -f -t 5 -T 2 >/dev/null 2>&1; echo $?") == "0"


def joined(one: GuestOn, two: GuestOn) -> None:
    """Each reaches the other."""
    for here, there in ((one, two), (two, one)):
        assert here.can_ping(there.private_address), (here.id, there.id)
        assert answer(here, there.private_address, 8082) == there.id, (here.id, there.id)


def all_joined(net: Net) -> None:
    one, two, three = net.guests
    for pair in ((one, two), (two, three), (three, one)):
        joined(*pair)


def disposable(net: Net, count: int = 1) -> list[str]:
    """Running instances that nothing else needs."""
    return running(net.account, count, InstanceType="t2.nano")


def terminate(net: Net, ids: list[str]) -> None:
    net.account.ec2.terminate_instances(InstanceIds=ids)
    net.account.ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=FAST)


def test_guests_of_one_subnet_reach_each_other_over_the_wire(net: Net):
    assert len({guest.host.name for guest in net.guests}) == 3
    assert len({instance(net.account.ec2, guest.id)["SubnetId"] for guest in net.guests}) == 1
    all_joined(net)
    for guest in net.all:
        assert metadata(guest) == guest.id
        assert leased(guest)
    # A packet that fills the wire: the tunnel's share is announced by DHCP.
    mtu = int(net.guests[0].ssh("cat /sys/class/net/eth0/mtu"))
    assert mtu < 1500
    assert net.guests[0].ssh(f"ping -c 1 -W 3 -s {mtu - 28} {net.guests[1].private_address} >/dev/null; echo $?") == "0"


def test_security_groups_hold_across_hosts(net: Net):
    friend, server, stranger = net.guests
    ec2, address = net.account.ec2, server.private_address
    assert not friend.can_connect(address, 8080, 2)
    rule = [of_group(net.friends, 8080)]
    ec2.authorize_security_group_ingress(GroupId=net.web, IpPermissions=rule)
    until(lambda: friend.can_connect(address, 8080, 2), "the friend is let in", 10)
    assert not stranger.can_connect(address, 8080, 2), "the rule is for members of the group"
    assert not friend.can_connect(address, 8081, 2), "the rule is for one port"
    ec2.revoke_security_group_ingress(GroupId=net.web, IpPermissions=rule)
    until(lambda: not friend.can_connect(address, 8080, 1), "the rule has gone", 10)
    assert friend.can_connect(address, 8082, 2)


def test_equal_addresses_of_two_accounts_do_not_meet(net: Net):
    one, two, three = net.guests
    assert net.other.private_address == two.private_address
    assert net.other.host is not two.host
    for guest in (one, three):
        # Theirs answers, never the stranger's, also where the stranger is on the same host.
        assert answer(guest, two.private_address, 8082) == two.id
        assert not net.other.can_ping(guest.private_address)
        assert not net.other.can_connect(guest.private_address, 8082, 2)
    assert answer(net.other, net.other.private_address, 8082) == net.other.id


def test_what_one_host_has_made_is_on_the_others(net: Net):
    """A snapshot and an image of a guest on the first host, on the second and the third. No host has the directories of
    either: they get images and snapshots from the control plane, and bring them to it."""
    site, account, ec2 = net.site, net.account, net.account.ec2
    one, two, three = net.guests
    assert not [path for host in site.hosts for path in host.state.glob("*") if path.name in ("images", "snapshots")]
    volume = volumes.create(account)
    volumes.attach(account, volume, one.id)
    one.ssh(f"mkfs.ext4 -q /dev/{volumes.wait_disk(one, volume)}", timeout=300)
    volumes.mount(one, volume)
    written = one.ssh(f"head -c 9000000 /dev/urandom >/mnt/file; cp /mnt/file /root/file; sync; {SUM}", timeout=120)
    first = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    # Whoever serves the stores is gone in the middle of it, or right before.
    server = site.role("conductor")
    server.kill()
    time.sleep(1)
    server.launch(site.environment(), server.variables)
    server.wait_ready(60)
    volumes.wait_completed(account, first)
    changed = one.ssh(f"head -c 1000000 /dev/urandom >/mnt/more; sync; {SUM}", timeout=120)
    second = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    room = sum(path.stat().st_blocks * 512 for path in site.state.glob("snapshots/segments/*"))
    volumes.wait_completed(account, second)
    grown = sum(path.stat().st_blocks * 512 for path in site.state.glob("snapshots/segments/*")) - room
    assert grown < 9_000_000, f"{grown} bytes for one that is {room}"
    made = ec2.create_volume(AvailabilityZone=volumes.zone(account), SnapshotId=second)["VolumeId"]
    volumes.attach(account, made, two.id)
    volumes.mount(two, made)
    assert two.ssh(SUM, timeout=120) == changed == written

    image = ec2.create_image(InstanceId=one.id, Name="of the first", NoReboot=True)["ImageId"]
    ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig=FAST)
    groups = [group["GroupId"] for group in three.describe()["SecurityGroups"]]
    with site.only_on(three.host):
        (fresh,) = site.launch(account, three.key, 1, ImageId=image, SecurityGroupIds=groups)
        fresh.wait_state("running")
    assert fresh.host is three.host
    assert fresh.wait_ssh().ssh("sha256sum </root/file", timeout=120) == written
    fresh.hang_up()
    terminate(net, [fresh.id])
    for guest, id in ((two, made), (one, volume)):
        guest.ssh("umount /mnt", timeout=120)
        volumes.detach(account, id)
        ec2.delete_volume(VolumeId=id)
        volumes.wait_gone(account, id)
    ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    for snapshot in (first, second):
        ec2.delete_snapshot(SnapshotId=snapshot)
    site.wait_clean(120)


def test_f31_hosts_go_on_without_the_control_plane(net: Net):
    site, (one, two, three) = net.site, net.guests
    # Nobody can be asked for an address later on.
    all_joined(net)
    before = {guest.id: guest.boot_id() for guest in net.all}
    tokens = {guest.id: guest.ssh("IMDS_TTL=3600 imds --token") for guest in net.all}
    site.control_down()
    all_joined(net)
    # A worker dies, and with it the metadata service and a VPC's DHCP: it puts back all of that by itself.
    host = two.host
    host.kill()
    signal_all(host.machine.pids("dnsmasq"), signal.SIGKILL)
    assert not leased(two)
    with figures.trial("F31"):
        host.start()
        until(lambda: metadata(two, tokens[two.id]) == two.id, "metadata is served again", 30)
        until(lambda: leased(two), "DHCP is served again", 30)
    for guest in net.all:
        assert metadata(guest, tokens[guest.id]) == guest.id, "a token from before"
        assert metadata(guest) == guest.id, "a new token"
        assert leased(guest)
    joined(one, two)
    joined(two, three)
    site.control_up()
    site.wait_clean(60)
    assert {guest.id: guest.boot_id() for guest in net.all} == before
    terminate(net, disposable(net))


def test_f30_a_host_off_the_wire_is_suspected_and_left_alone(net: Net):
    site, (friend, server, lost) = net.site, net.guests
    host, before = lost.host, lost.boot_id()
    rule = [of_group(net.friends, 8081)]
    cut = time.monotonic()
    host.machine.cut()
    try:
        until(lambda: not site.listed()[host.name]["alive"], "the host counts as silent", SILENCE[1], every=0.5)
        assert time.monotonic() - cut > SILENCE[0], "a short silence is nothing"
        assert lost.state == "running", "what was known last"
        more = disposable(net, 2)
        assert all(site.host_of(id) is not host for id in more)
        terminate(net, more)
        net.account.ec2.authorize_security_group_ingress(GroupId=net.web, IpPermissions=rule)
        assert not friend.can_connect(lost.private_address, 8082, 2)
        joined(friend, server)
        while True:
            assert metadata(lost) == lost.id and lost.boot_id() == before
            assert lost.state == "running", "suspicion is no reason to act"
            if time.monotonic() - cut > CUT:
                break
            time.sleep(1)
    finally:
        host.machine.join()
    with figures.trial("F30"):
        until(lambda: site.listed()[host.name]["alive"], "the host is heard of again", SEEN)
        until(lambda: friend.can_connect(lost.private_address, 8081, 2), "it is told what has changed", 60)
    assert lost.boot_id() == before
    all_joined(net)
    net.account.ec2.revoke_security_group_ingress(GroupId=net.web, IpPermissions=rule)
    site.wait_clean(60)


def test_f18_libvirt_restarts_and_guests_do_not(net: Net):
    site, guest = net.site, net.guests[0]
    host, before = guest.host, guest.boot_id()
    machine, worker = host.machine, host.roles["compute"]
    again = lambda: worker.said().count("connected to libvirt again")  # noqa: E731
    seen = again()
    with machine.without_libvirtd():
        assert guest.boot_id() == before
    with figures.trial("F18"):
        until(lambda: again() > seen, "the worker is connected again", 10, every=0.05)
    with site.only_on(host):
        # It tells so with a heartbeat, after it has said that it is connected.
        until(lambda: site.listed()[host.name]["ready"], "the host is ready again", 30)
        # While launches are under way.
        ids = [each.id for each in site.launch(net.account, guest.key, 2)]
        until(lambda: worker.said().count(ids[0]) or machine.domains(), "the launch has begun", 20, every=0.05)
        with machine.without_libvirtd():
            assert guest.boot_id() == before
        net.account.ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=FAST)
        # An event that nobody hears: a guest ends while libvirt is away.
        with machine.without_libvirtd():
            machine.kill_guest(ids[0])
        with figures.trial("F18"):
            until(lambda: state(net, ids[0]) == "stopped", "the state is right again", 30)
        assert state(net, ids[1]) == "running"
    assert guest.boot_id() == before
    terminate(net, ids)


def state(net: Net, id: str) -> str:
    return instance(net.account.ec2, id)["State"]["Name"]


def test_f20_a_guest_whose_program_is_killed_is_stopped(net: Net):
    guest = net.guests[1]
    before, address = guest.boot_id(), guest.private_address
    guest.hang_up()
    guest.host.machine.kill_guest(guest.id)
    with figures.trial("F20"):
        seen = guest.wait_state("stopped", 30)
    assert seen["StateReason"]["Code"].startswith("Server."), seen["StateReason"]
    assert seen["PrivateIpAddress"] == address
    net.account.ec2.start_instances(InstanceIds=[guest.id])
    guest.wait_state("running")
    net.site.forget_places()
    guest.wait_ssh()
    assert guest.boot_id() != before
    # User data runs once in the life of an instance: its server is started by hand.
    guest.ssh(f"/var/lib/cumulet/{guest.id}/script >/dev/null 2>&1 </dev/null")
    until(lambda: answer(net.guests[0], address, 8082) == guest.id, "it serves again", 30)


def test_f23_a_lost_host_is_seen_and_gets_nothing(net: Net):
    site, guest = net.site, net.guests[2]
    host = guest.host
    guest.hang_up()
    lost = time.monotonic()
    host.power_cut()
    with figures.trial("F23"):
        until(lambda: not site.listed()[host.name]["alive"], "the host counts as dead", SILENCE[1], every=0.5)
    assert time.monotonic() - lost > SILENCE[0]
    more = disposable(net, 3)
    assert all(site.host_of(id) is not host for id in more)
    joined(*net.guests[:2])
    terminate(net, more)
    # It comes back after all. Its guest has lost its power, and is said to have: nothing was started elsewhere.
    host.start()
    until(lambda: site.listed()[host.name]["alive"], "the host is back", SEEN)
    guest.wait_state("stopped", 60)
    site.wait_clean(120)

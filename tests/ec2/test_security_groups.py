"""Security groups with real packets: what is allowed passes, nothing else does, and changes cut running guests off."""

import base64
import re
from dataclasses import dataclass

import pytest

from harness.cloud import Account, Cloud
from harness.guest import Guest, allow, launch, reachable, ssh_key, terminate
from harness.wait import until

# Serves "served" on two ports.
SERVER = """#!/bin/sh
for port in 8080 8081; do
    (while :; do echo served | nc -l -p $port >/dev/null 2>&1; done) &
done
"""


@dataclass
class Net:
    """A client and a server in one subnet, on one host."""

    account: Account
    client: Guest
    server: Guest
    web: str
    admin: str


@pytest.fixture(scope="module")
def net(real_cloud: Cloud, tmp_path_factory):
    account = real_cloud.account()
    ec2 = account.ec2
    key, public = ssh_key(tmp_path_factory.mktemp("keys"))
    ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    admin = ec2.create_security_group(GroupName="admin", Description="ssh from anywhere")["GroupId"]
    web = ec2.create_security_group(GroupName="web", Description="what the tests let in")["GroupId"]
    allow(account, admin, "tcp", (22, 22))
    (server,) = launch(account, key, "k", UserData=SERVER, SecurityGroupIds=[admin, web])
    (client,) = launch(account, key, "k", SecurityGroupIds=[admin])
    for guest in (server, client):
        guest.wait_ssh()
    yield Net(account, client, server, web, admin)
    terminate(account, client, server)


@pytest.fixture(autouse=True)
def closed(net: Net):
    """Each test starts with nothing let in but SSH."""
    yield
    (group,) = net.account.ec2.describe_security_groups(GroupIds=[net.web])["SecurityGroups"]
    if group["IpPermissions"]:
        net.account.ec2.revoke_security_group_ingress(GroupId=net.web, IpPermissions=group["IpPermissions"])
    until(lambda: not net.client.can_connect(net.server.private, 8080, 1), "the server is closed again", 12)


def opens(net: Net, port: int = 8080) -> None:
    until(lambda: net.client.can_connect(net.server.private, port, 1), f"port {port} opens", 10)


def test_nothing_is_let_in_that_no_rule_names(net: Net):
    assert not net.client.can_connect(net.server.private, 8080)
    assert not net.client.can_ping(net.server.private)
    assert net.client.can_connect(net.server.private, 22), "the admin group lets SSH in"
    assert not reachable(net.server.public, 8080) and reachable(net.server.public, 22)


def test_a_rule_for_a_port_opens_that_port_only(net: Net):
    allow(net.account, net.web, "tcp", (8080, 8080), f"{net.client.private}/32")
    opens(net)
    assert not net.client.can_connect(net.server.private, 8081)
    assert not net.client.can_ping(net.server.private)
    # The rule is for the client's private address.
    assert not reachable(net.server.public, 8080)
    # Answers pass by connection, not by rule: the server may not connect to the client.
    assert not net.server.can_connect(net.client.private, 8080)


def test_revoking_cuts_within_seconds(net: Net):
    rule = [{"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8081, "IpRanges": [{"CidrIp": "172.31.0.0/16"}]}]
    net.account.ec2.authorize_security_group_ingress(GroupId=net.web, IpPermissions=rule)
    opens(net)
    opens(net, 8081)
    net.account.ec2.revoke_security_group_ingress(GroupId=net.web, IpPermissions=rule)
    until(lambda: not net.client.can_connect(net.server.private, 8080, 1), "revoked", 10)
    assert not net.client.can_connect(net.server.private, 8081)


def test_a_rule_for_a_group_is_for_its_members(net: Net):
    ec2 = net.account.ec2
    friends = ec2.create_security_group(GroupName="friends", Description="d")["GroupId"]
    pair = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "UserIdGroupPairs": [{"GroupId": friends}]}
    ec2.authorize_security_group_ingress(GroupId=net.web, IpPermissions=[pair])
    assert not net.client.can_connect(net.server.private, 8080)
    ec2.modify_instance_attribute(InstanceId=net.client.id, Groups=[net.admin, friends])
    opens(net)
    ec2.modify_instance_attribute(InstanceId=net.client.id, Groups=[net.admin])
    until(lambda: not net.client.can_connect(net.server.private, 8080, 1), "no member any more", 10)
    ec2.revoke_security_group_ingress(GroupId=net.web, IpPermissions=[pair])
    ec2.delete_security_group(GroupId=friends)


def test_icmp(net: Net):
    allow(net.account, net.web, "icmp", (8, -1), "172.31.0.0/16")
    until(lambda: net.client.can_ping(net.server.private), "ping passes", 10)
    assert not net.server.can_ping(net.client.private)
    assert not net.client.can_connect(net.server.private, 8080)


def test_egress(net: Net):
    ec2 = net.account.ec2
    allow(net.account, net.web, "tcp", (8080, 8081), "172.31.0.0/16")
    opens(net)
    (group,) = ec2.describe_security_groups(GroupIds=[net.admin])["SecurityGroups"]
    everything = group["IpPermissionsEgress"]
    only = [{"IpProtocol": "tcp", "FromPort": 8081, "ToPort": 8081, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.revoke_security_group_egress(GroupId=net.admin, IpPermissions=everything)
    ec2.authorize_security_group_egress(GroupId=net.admin, IpPermissions=only)
    try:
        until(lambda: not net.client.can_connect(net.server.private, 8080, 1), "cut on the way out", 10)
        opens(net, 8081)
    finally:
        ec2.authorize_security_group_egress(GroupId=net.admin, IpPermissions=everything)
        ec2.revoke_security_group_egress(GroupId=net.admin, IpPermissions=only)
    opens(net)


def test_from_the_host_by_the_public_address(net: Net):
    allow(net.account, net.web, "tcp", (8080, 8080))
    until(lambda: reachable(net.server.public, 8080, 1), "the public address answers", 10)
    assert not reachable(net.server.public, 8081)


def test_a_forged_address_is_not_heard(net: Net):
    """The client sends as somebody else, with an address that the rule allows: nothing arrives."""
    allow(net.account, net.web, "icmp", (8, -1), "172.31.0.0/16")
    own, server = net.client.private, net.server.private
    forged = re.sub(r"\d+$", lambda last: str(int(last[0]) % 250 + 2), own)
    assert forged not in (own, server)

    def heard() -> int:
        """Echo requests that have reached the server's kernel."""
        column = "for (i = 2; i <= NF; i++) if ($i == \"InEchos\") n = i"
        return int(net.server.ssh(f"awk '/^Icmp:/ {{ if (n) print $n; else {column} }}' /proc/net/snmp"))

    def own_address_is_heard() -> bool:
        before = heard()
        answered = net.client.ssh(f"ping -c 1 -W 1 -I {own} {server} >/dev/null; echo $?") == "0"
        return answered and heard() > before

    until(own_address_is_heard, "the client's own address is heard", 20)
    net.client.ssh(f"ip addr add {forged}/32 dev eth0")
    try:
        before = heard()
        sent = net.client.ssh(f"ping -c 3 -W 1 -I {forged} {server}; true")
        assert "3 packets transmitted, 0 packets received" in sent
        assert heard() == before
        assert own_address_is_heard(), "the way still works"
    finally:
        net.client.ssh(f"ip addr del {forged}/32 dev eth0")


def test_a_forged_ethernet_address_is_not_heard(net: Net):
    allow(net.account, net.web, "tcp", (8080, 8080), "172.31.0.0/16")
    opens(net)
    own = net.client.ssh("cat /sys/class/net/eth0/address")
    forged = own[:-2] + f"{(int(own[-2:], 16) + 1) % 256:02x}"
    # By the same way with its own address it gets there, so it is the address that is not heard.
    assert as_another(net, own, own) == "0"
    assert as_another(net, own, forged) != "0"
    opens(net)


def as_another(net: Net, own: str, address: str) -> str:
    """What a connection to the server says that is made with another Ethernet address; then all is as before."""
    change = "ip link set eth0 down; ip link set eth0 address {}; ip link set eth0 up; routes; routes"
    script = f"""
routes() {{ while read -r route; do ip route add $route 2>/dev/null; done </tmp/routes; }}
rm -f /tmp/result
ip -4 route show >/tmp/routes
{change.format(address)}
(echo; sleep 1) | timeout 5 nc -w 4 {net.server.private} 8080 >/dev/null 2>&1
result=$?
{change.format(own)}
echo $result >/tmp/result
"""
    text = base64.b64encode(script.encode()).decode()
    net.client.ssh(f"echo {text} | base64 -d >/tmp/forge; (sh /tmp/forge >/dev/null 2>&1 &)")
    return until(lambda: net.client.try_ssh("cat /tmp/result"), "the client is back as itself", 60)


def test_nothing_of_the_host_is_reached_but_metadata(net: Net):
    port = int(net.account.cloud.address.split(":")[1])
    gateway = net.client.ssh("ip route show default | awk '{print $3; exit}'")
    for address in (gateway or "172.31.0.1", "127.0.0.1", "169.254.169.254"):
        assert not net.client.can_connect(address, port, 2), address
    assert not net.client.can_connect(gateway or "172.31.0.1", 22, 2)
    assert net.client.can_connect("169.254.169.254", 80, 2)

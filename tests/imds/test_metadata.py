"""Metadata read from inside real guests: both versions, tokens required, switched off, hop limit, and identity."""

import base64
import json

import pytest

from harness.cloud import Account, Cloud
from harness.ec2 import instance
from harness.guest import Guest, launch, shell_key, terminate
from harness.wait import until

BASE = "http://169.254.169.254"
USER_DATA = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def guests(real_cloud: Cloud, tmp_path_factory):
    """Two guests; the first has tags in its metadata."""
    account = real_cloud.account()
    key = shell_key(account, tmp_path_factory.mktemp("keys"))
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "one"}, {"Key": "a:b", "Value": "x"}]}]
    options = {"InstanceMetadataTags": "enabled", "HttpEndpoint": "enabled"}
    made = launch(account, key, "k", UserData=USER_DATA, TagSpecifications=tags, MetadataOptions=options)
    made += launch(account, key, "k")
    for guest in made:
        guest.wait_ssh()
    yield made
    terminate(account, *made)


@pytest.fixture
def one(guests) -> Guest:
    return guests[0]


def request(guest: Guest, method: str, path: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    """One raw HTTP/1.0-style exchange over the guest's `nc`: status, headers, body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 169.254.169.254", "Connection: close", *headers, "", ""]
    text = base64.b64encode("\r\n".join(lines).encode()).decode()
    # busybox's nc shuts the connection when its input ends, so the input stays open for a while.
    command = f"(echo {text} | base64 -d; sleep 1) | timeout 5 nc -w 5 169.254.169.254 80 | base64 -w 0"
    raw = base64.b64decode(guest.ssh(command))
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    assert first.startswith("HTTP/1.1 "), raw[:100]
    return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}, body


def get(guest: Guest, path: str, *headers: str) -> tuple[int, bytes]:
    status, _, body = request(guest, "GET", path, *headers)
    return status, body


def token(guest: Guest) -> str:
    status, headers, body = request(guest, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 600", "Content-Length: 0")
    assert status == 200 and headers["x-aws-ec2-metadata-token-ttl-seconds"] == "600"
    assert len(body) >= 40 and b"\n" not in body
    return body.decode()


def options(account: Account, guest: Guest, **wanted) -> None:
    """Changes the options and waits until the host follows them."""
    account.ec2.modify_instance_metadata_options(InstanceId=guest.id, **wanted)

    def applied() -> bool:
        return instance(account.ec2, guest.id)["MetadataOptions"]["State"] == "applied"

    until(applied, "the options are applied", 10, every=0.1)


def test_version_one_and_two(one: Guest):
    assert get(one, "/latest/meta-data/instance-id") == (200, one.id.encode())
    secret = f"X-aws-ec2-metadata-token: {token(one)}"
    assert get(one, "/latest/meta-data/instance-id", secret) == (200, one.id.encode())
    assert get(one, "/latest/meta-data/instance-id", "X-aws-ec2-metadata-token: wrong")[0] == 401
    for header in ("X-None: 1", "X-aws-ec2-metadata-token-ttl-seconds: 0", "X-aws-ec2-metadata-token-ttl-seconds: 21601"):
        assert request(one, "PUT", "/latest/api/token", header, "Content-Length: 0")[0] == 400, header
    forwarded = ("X-aws-ec2-metadata-token-ttl-seconds: 60", "X-Forwarded-For: 1.2.3.4", "Content-Length: 0")
    assert request(one, "PUT", "/latest/api/token", *forwarded)[0] == 403


def test_what_a_booting_guest_needs(one: Guest):
    seen = one.describe()
    nic = seen["NetworkInterfaces"][0]
    mac = f"network/interfaces/macs/{nic['MacAddress']}"
    public = one.key.with_suffix(".pub").read_text().split()
    expected = {
        "ami-id": seen["ImageId"],
        "instance-type": "t2.nano",
        "local-ipv4": seen["PrivateIpAddress"],
        "public-ipv4": seen["PublicIpAddress"],
        "local-hostname": seen["PrivateDnsName"],
        "hostname": seen["PrivateDnsName"],
        "mac": nic["MacAddress"],
        "placement/availability-zone": "us-east-1a",
        "placement/region": "us-east-1",
        "security-groups": "default",
        f"{mac}/local-ipv4s": seen["PrivateIpAddress"],
        f"{mac}/interface-id": nic["NetworkInterfaceId"],
        f"{mac}/vpc-id": seen["VpcId"],
        f"{mac}/subnet-ipv4-cidr-block": "172.31.0.0/20",
        f"{mac}/device-number": "0",
        "public-keys/": "0=k",
        "tags/instance/Name": "one",
        "tags/instance/a%3Ab": "x",
    }
    for path, text in expected.items():
        assert get(one, f"/latest/meta-data/{path}") == (200, text.encode()), path
    status, key = get(one, "/latest/meta-data/public-keys/0/openssh-key")
    assert status == 200 and key.decode().split()[:2] == public[:2]
    assert get(one, "/latest/user-data") == (200, USER_DATA)
    assert get(one, "/latest/meta-data/no-such-thing")[0] == 404


def test_every_name_that_is_listed_answers(one: Guest):
    """One listed leaf that is not there costs cloud-init the whole tree."""
    crawl = r"""
crawl() {
    for name in $(imds "latest/$1" | sed 's/=.*/\//'); do
        case $name in
        */) crawl "$1$name" ;;
        *) imds "latest/$1$name" >/dev/null || echo "MISSING $1$name" ; echo "leaf $1$name" ;;
        esac
    done
}
IMDS_TOKEN=$(imds --token); export IMDS_TOKEN
crawl meta-data/
crawl dynamic/
"""
    text = base64.b64encode(crawl.encode()).decode()
    lines = one.ssh(f"echo {text} | base64 -d >/tmp/crawl; sh /tmp/crawl", timeout=170).splitlines()
    assert [line for line in lines if line.startswith("MISSING")] == []
    leaves = {line.removeprefix("leaf ") for line in lines}
    assert {"meta-data/instance-id", "dynamic/instance-identity/document"} <= leaves and len(leaves) >= 25


def test_the_identity_document(one: Guest):
    status, body = get(one, "/latest/dynamic/instance-identity/document")
    document = json.loads(body)
    assert status == 200 and not body.endswith(b"\n")
    assert (document["instanceId"], document["accountId"]) == (one.id, one.account.id)
    assert document["privateIp"] == one.private and document["region"] == "us-east-1"


def test_tokens_required(one: Guest):
    options(one.account, one, HttpTokens="required", HttpEndpoint="enabled")
    try:
        assert get(one, "/latest/meta-data/instance-id")[0] == 401
        secret = f"X-aws-ec2-metadata-token: {token(one)}"
        assert get(one, "/latest/meta-data/instance-id", secret) == (200, one.id.encode())
    finally:
        options(one.account, one, HttpTokens="optional", HttpEndpoint="enabled")
    assert get(one, "/latest/meta-data/instance-id")[0] == 200


def test_switched_off_is_403_at_once(one: Guest):
    options(one.account, one, HttpEndpoint="disabled")
    try:
        assert get(one, "/latest/meta-data/instance-id")[0] == 403
        put = ("X-aws-ec2-metadata-token-ttl-seconds: 60", "Content-Length: 0")
        assert request(one, "PUT", "/latest/api/token", *put)[0] == 403
    finally:
        options(one.account, one, HttpEndpoint="enabled")


def test_the_hop_limit_is_on_the_wire(one: Guest):
    """A guest that routes for another network namespace: its client is a hop away and gets a token or not."""
    setup = (
        "ip netns help >/dev/null 2>&1; "
        "echo 1 >/proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward"
    )
    assert one.ssh(setup) == "1"
    for limit in (1, 2, 64):
        options(one.account, one, HttpPutResponseHopLimit=limit, HttpEndpoint="enabled")
        assert instance(one.ec2, one.id)["MetadataOptions"]["HttpPutResponseHopLimit"] == limit
        # Even the smallest limit reaches the guest itself.
        assert token(one)
        assert ttl_of_the_answer(one) == limit
    options(one.account, one, HttpPutResponseHopLimit=1, HttpEndpoint="enabled")


def ttl_of_the_answer(guest: Guest) -> int:
    """The TTL of the packet that carries the token, seen in the guest's VPC on this host."""
    import os
    import socket
    import subprocess
    import sys

    from harness import host

    vpc = guest.describe()["VpcId"]
    mark = guest.cloud.mark
    device = "cu" + host.short(guest.describe()["NetworkInterfaces"][0]["NetworkInterfaceId"])
    sniffer = f"""
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(({device!r}, 0))
s.settimeout(20)
print("listening", flush=True)
while True:
    packet, where = s.recvfrom(65536)
    if packet[12:14] == b"\\x08\\x00" and packet[26:30] == bytes([169, 254, 169, 254]) and b"metadata-token-ttl" in packet.lower():
        print(packet[22], flush=True)
        break
"""
    command = ["ip", "netns", "exec", f"cumulet-{mark}-{vpc}", sys.executable, "-c", sniffer]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout.readline().strip() == "listening"
        token(guest)
        line = process.stdout.readline().strip()
        process.wait(20)
    assert hasattr(socket, "AF_PACKET")
    return int(line)


def test_anothers_identity_cannot_be_had(guests):
    one, other = guests
    stolen = f"X-aws-ec2-metadata-token: {token(other)}"
    assert get(one, "/latest/meta-data/instance-id", stolen)[0] == 401
    for header in (
        f"X-Forwarded-For: {other.private}", f"X-Real-IP: {other.private}", f"X-Instance-ID: {other.id}",
        f"Forwarded: for={other.private}", f"X-LXD-Instance: {other.id}",
    ):  # fmt: skip
        status, body = get(one, "/latest/meta-data/instance-id", header)
        assert body != other.id.encode() and (status, body) in ((200, one.id.encode()), (403, body)), header
    # With the other's address on its interface it gets no answer at all.
    assert one.id in asked_from(one, one.private), "the question is a good one"
    assert asked_from(one, other.private) == ""
    assert get(other, "/latest/meta-data/instance-id") == (200, other.id.encode())


def asked_from(guest: Guest, source: str) -> str:
    """The answer to a question that is sent with this address as its source."""
    request = "GET /latest/meta-data/instance-id HTTP/1.0\\r\\n\\r\\n"
    return guest.ssh(
        f"gateway=$(ip route show default | awk '{{print $3; exit}}'); own={guest.private}; "
        f"[ {source} = $own ] || ip addr add {source}/32 dev eth0; "
        f"ip route replace 169.254.169.254/32 via $gateway dev eth0 src {source} || exit 9; "
        f"(printf '{request}'; sleep 1) | timeout 5 nc -w 4 169.254.169.254 80; "
        f"ip route replace 169.254.169.254/32 via $gateway dev eth0 src $own; "
        f"[ {source} = $own ] || ip addr del {source}/32 dev eth0"
    )


def test_changes_are_seen_by_running_guests(one: Guest):
    one.ec2.create_tags(Resources=[one.id], Tags=[{"Key": "Name", "Value": "changed"}])
    until(lambda: get(one, "/latest/meta-data/tags/instance/Name") == (200, b"changed"), "the new tag", 10)
    options(one.account, one, InstanceMetadataTags="disabled", HttpEndpoint="enabled")
    assert get(one, "/latest/meta-data/tags/instance/Name")[0] == 404

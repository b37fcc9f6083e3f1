"""F28: a host is not what it was: whoever has its broker credentials says wrong things about itself and about others.
Nothing of others changes, whatever is said, and what is asked for meanwhile is done and enforced."""

import json
import secrets
import shlex
import time

import pika
import pytest

from harness import cluster, volumes
from harness.cloud import Cloud
from harness.database import sql
from harness.ec2 import default_group, instances, running, states, wait
from harness.wait import until

# Nobody's, and somebody's.
ADDRESSES = ["0.0.0.0", "127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "10.77.0.1", "not an address"]


class Evil:
    """A host's broker user, as an operator admits it, in somebody else's hands."""

    name = "evil"

    def __init__(self, cloud: Cloud) -> None:
        broker, password = cluster.broker(), secrets.token_hex(16)
        told = cloud.run("admin", "broker", "host-user", self.name, "--vhost", cloud.vhost)
        add, permit = map(shlex.split, told.splitlines())
        broker.ctl(*add[1:], password)
        broker.ctl(*permit[1:])
        self.user = add[2]
        self.exchange = self.user.removesuffix(f".host.{self.name}") + ".reports"
        self.connection = pika.BlockingConnection(pika.URLParameters(broker.url(cloud.vhost, self.user, password)))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def send(self, body: bytes) -> None:
        self.channel.basic_publish(self.exchange, "", body, pika.BasicProperties(user_id=self.user))

    def report(self, content: dict, host: str = name, at: int | None = None) -> None:
        at = int(time.time() * 1000) if at is None else at
        report = {"host": host, "at": at, "content": content}
        self.send(json.dumps({"v": 1, "kind": "report", "body": report}).encode())

    def alive(self, **more) -> None:
        told = {
            "resources": {"vcpus": 64, "memory_mib": 1 << 20, "disk_gib": 1 << 20},
            "hypervisor": "fake", "availability_zone": "us-east-1a", "tunnel_address": "10.77.0.9",
        } | more  # fmt: skip
        self.report({"heartbeat": told})

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def cloud(kind: str):
    with Cloud("fake", cluster=kind) as cloud:
        cloud.another("compute")
        cloud.start()
        until(lambda: len([h for h in hosts(cloud).values() if h["alive"]]) == 2, "two hosts", 30)
        yield cloud
        cloud.start()
        cloud.run("admin", "host", "remove", Evil.name)
        cloud.wait_clean(60)


def hosts(cloud: Cloud) -> dict[str, dict]:
    return {host["host"]: host for host in json.loads(cloud.run("admin", "host", "list", "--json"))}


def of_others(cloud: Cloud) -> dict:
    """What the operator sees of the other hosts, but for what changes by itself."""
    changing = ("last_seen", "metrics", "alive", "ready")
    return {
        name: {key: value for key, value in host.items() if key not in changing}
        for name, host in hosts(cloud).items()
        if name != Evil.name
    }


def lies(evil: Evil, ids: list[str], vpc: str, volume: str, snapshot: str, others: list[str]) -> None:
    """Every kind of report, about everything that is not the host's."""
    most = (1 << 63) - 2
    operation = "op-" + "0" * 16 + "1"
    for id in ids:
        for power in ("off", "absent", "on"):
            seen = {"instance": id, "generation": 1, "power": power, "off_reason": "guest-shutdown"}
            evil.report({"changed": seen})
            evil.report({"full": [seen]})
            outcome = {"operation": operation, "report": seen, "failure": None, "permanent": True}
            evil.report({"done": outcome})
            evil.report({"done": outcome | {"failure": "x\n" * (1 << 18)}})
        for revision in (0, 1, most, (1 << 64) - 1):
            evil.report({"metadata-applied": {"instance": id, "revision": revision}})
    for generation in (0, 1, most, (1 << 64) - 1):
        evil.report({"network-applied": {"vpc": vpc, "generation": generation}})
    for failure in (None, "no", "x\n" * (1 << 18)):
        said = {"operation": operation, "failure": failure, "permanent": True}
        evil.report({"volume-done": said | {"volume": volume}})
        for manifest in ("a" * 64, "../../etc/passwd", "x" * (1 << 18)):
            for size in (1, (1 << 64) - 1):
                taken = {"id": snapshot, "manifest": manifest, "fresh_bytes": size, "bytes": size}
                evil.report({"snapshot-done": said | {"taken": [taken]}})
        evil.report({"snapshot-done": said | {"taken": []}})
        evil.report({"snapshot-done": said | {"taken": [taken | {"manifest": "a" * 64}] * 1000}})
    made_up = [
        {"instance": f"i-{number:017x}", "generation": 1, "power": "on", "off_reason": None}
        for number in range(1 << 40, (1 << 40) + 20_000)
    ]
    evil.report({"full": made_up})
    evil.report({"full": []})
    for other in others:
        # The broker vouches for who speaks.
        evil.report({"heartbeat": {"resources": {"vcpus": 0, "memory_mib": 0, "disk_gib": 0}, "hypervisor": "fake",
                                   "availability_zone": "elsewhere"}}, host=other)  # fmt: skip
        evil.report({"full": []}, host=other)
    for at in (-1, 1 << 62):
        evil.report({"full": []}, at=at)
    for body in (b"", b"{", b"null", b"[" * 100_000, b'{"v": 1, "kind": "report", "body": {"host": 1}}'):
        evil.send(body)


def heartbeats(evil: Evil, snapshot: str) -> None:
    """What a host may say of itself and of what it does, and what no host may."""
    for address in ADDRESSES:
        evil.alive(tunnel_address=address, console_address=f"{address}:22")
    evil.alive(hypervisor="x" * 1_000_000)
    evil.alive(availability_zone="us-east-1a\n")
    evil.alive(resources={"vcpus": (1 << 32) - 1, "memory_mib": (1 << 64) - 1, "disk_gib": (1 << 64) - 1})
    evil.alive(not_ready={"reason": "y" * 1_000_000, "cure": "z\n" * 100_000}, problems=["p" * 10_000] * 1000)
    evil.alive(profile={"architecture": "x" * 10_000, "capabilities": {str(n): "c" * 9000 for n in range(500)}})
    evil.alive(metrics={f"cpu{n}.percent": (1 << 62) for n in range(500)})
    for key in ("", "A" * 43, "A" * 42 + "=", "ä" * 43, "A" * 1_000_000):
        evil.alive(disk_key=key)
    for percent in (0, 50, 255):
        evil.alive(snapshots=[{"id": snapshot, "percent": percent}] * 10_000)


def test_f28_a_hostile_host_changes_nothing_of_others(cloud: Cloud):
    account = cloud.account()
    ec2 = account.ec2
    ids = running(account, 4)
    vpc = instances(ec2, ids)[0]["VpcId"]
    group = default_group(ec2)
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    volume = volumes.create(account)
    volumes.attach(account, volume, ids[0])
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    stored = (volumes.describe(account, volume), volumes.wait_completed(account, snapshot))
    evil = Evil(cloud)
    evil.alive()
    until(lambda: Evil.name in hosts(cloud), "it has joined", 30)
    # Nothing of it counts before the operator has said so: no launch goes there.
    assert not hosts(cloud)[Evil.name]["ready"]
    before, seen = of_others(cloud), instances(ec2, ids)
    heartbeats(evil, snapshot)
    lies(evil, ids, vpc, volume, snapshot, list(before))
    # What is asked for meanwhile is done, and enforced on the hosts that the others are.
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[rule])
    ec2.create_tags(Resources=ids, Tags=[{"Key": "meanwhile", "Value": "yes"}])
    more = running(account, 2)
    behind = (
        "SELECT COUNT(*) FROM host_networks h JOIN vpcs v ON v.id = h.vpc "
        "WHERE h.applied_generation < v.policy_generation OR h.applied_generation > v.policy_generation"
    )
    until(lambda: sql(cloud, behind).strip() == "0", "every host enforces the newest policy", 60)
    until(lambda: sql(cloud, "SELECT COUNT(*) FROM metadata_pushes").strip() == "0", "every host serves the newest", 60)
    evil.alive(problems=["the last word"])
    until(lambda: hosts(cloud)[Evil.name]["problems"] == ["the last word"], "all of it has been heard", 60)
    told = hosts(cloud)[Evil.name]
    assert told["tunnel_address"] == {"told": "10.77.0.9", "confirmed": None}
    assert told["console_address"]["confirmed"] is None and not told["ready"] and told["instances"] == []
    assert states(ec2, [*ids, *more]) == {"running"}
    for was, now in zip(seen, instances(ec2, ids)):
        for key in ("State", "StateReason", "PrivateIpAddress", "LaunchTime", "StateTransitionReason"):
            assert was.get(key) == now.get(key), key
    (now,) = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    assert (volumes.describe(account, volume), now) == stored
    ec2.terminate_instances(InstanceIds=more)
    wait(account, more, "terminated")
    assert of_others(cloud) == before
    # An address that is another's, or nobody's, is none that can be confirmed.
    honest = sorted(before)[0]
    cloud.run("admin", "host", "confirm", honest, "--tunnel-address", "10.77.0.9")
    refused = cloud.execute("admin", "host", "confirm", Evil.name)
    assert refused.returncode != 0 and honest in refused.stderr
    for address in ("0.0.0.0", "127.0.0.1"):
        refused = cloud.execute("admin", "host", "confirm", Evil.name, "--tunnel-address", address)
        assert refused.returncode != 0 and address in refused.stderr, refused.stderr
    cloud.run("admin", "host", "confirm", honest)
    evil.close()

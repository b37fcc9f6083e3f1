"""The harness's own hosts: what the tests with several hosts stand on."""

import os
import socket
import subprocess
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from harness.cloud import BIN, TINY
from harness.guest import TINY_READY
from harness.machines import Machines
from harness.process import READY
from harness.wait import until


@pytest.fixture
def machines(request):
    assert os.geteuid() == 0, "hosts need root"
    with Machines(request.param) as made:
        yield made
        inside = [pid for machine in made for pid in machine.processes()]
        roots = [machine.root for machine in made]
    assert made.left() == []
    assert not [pid for pid in inside if Path(f"/proc/{pid}").exists()]
    assert not [root for root in roots if root.exists()]


@pytest.mark.parametrize("machines", [2], indirect=True)
def test_hosts_are_apart_and_joined_by_their_bridge(machines) -> None:
    one, two = machines

    def reaches(host, address: str) -> bool:
        return host.execute("busybox", "ping", "-c", "1", "-W", "1", address).returncode == 0

    assert reaches(one, two.address) and reaches(two, one.address) and reaches(one, machines.address)
    # A namespace of one is not seen by the other, nor out here, and can be entered.
    one.run("ip", "netns", "add", "mine")
    assert one.namespaces() == ["mine"] and two.namespaces() == []
    assert not Path("/run/netns/mine").exists()
    assert one.run("ip", "netns", "exec", "mine", "ip", "-o", "link").count("\n") == 0
    # Each libvirt is its own.
    ids = {host.run("virsh", "-q", "capabilities").split("<uuid>")[1].split("<")[0] for host in machines}
    assert len(ids) == 2
    assert {host.run("hostname") for host in machines} == {"host-1", "host-2"}
    assert socket.gethostname() not in ("host-1", "host-2")
    # A partition, and its end.
    one.cut()
    assert not reaches(two, one.address)
    one.join()
    until(lambda: reaches(two, one.address), "the host is back")
    # A host that stands still, and goes on.
    program = one.launch("sh", "-c", "while :; do echo; sleep 0.01; done", output=one.root / "lines")
    lines = one.root / "lines"
    until(lambda: lines.stat().st_size > 3, "lines")
    one.freeze()
    size = lines.stat().st_size
    assert not reaches(one, "256.0.0.1")
    assert lines.stat().st_size - size <= 1
    one.thaw()
    until(lambda: lines.stat().st_size > size + 3, "more lines")
    # Power: all programs are gone, what was written is there.
    one.power_cut()
    assert program.poll() is not None
    one.start()
    assert lines.exists() and one.namespaces() == [] and reaches(two, one.address)


@pytest.mark.parametrize("machines", [1], indirect=True)
def test_a_whole_cloud_runs_inside_one_host(machines) -> None:
    """Real guests in a host of the harness: taps, namespaces of VPCs, DHCP, metadata, public addresses."""
    assert TINY.exists(), f"{TINY} is not built (tests/guests/tiny/build)"
    (host,) = machines
    state, output = host.root / "state", host.root / "output"
    listen = f"{host.address}:8773"
    command = [BIN, "up", "--state-dir", state, "--listen", listen, "--driver", "libvirt", "--tiny-image", TINY]
    cloud = host.launch(*command, output=output)
    until(lambda: READY.encode() in output.read_bytes() or cloud.poll() is not None, "the cloud", 90)
    assert cloud.poll() is None, output.read_text()[-4000:]
    env = dict(
        line.removeprefix("export ").replace("'", "").split("=", 1)
        for line in host.run(BIN, "env", "--state-dir", state).splitlines()
    )
    ec2 = boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=f"http://{listen}",
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}),
    )
    run = ec2.run_instances(ImageId=env["CUMULET_IMAGE"], InstanceType="t3.nano", MinCount=1, MaxCount=1)
    (instance,) = run["Instances"]
    ids = [instance["InstanceId"]]
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    # It has booted: it found its address by DHCP and its key by the metadata service.
    console = lambda: ec2.get_console_output(InstanceId=ids[0], Latest=True).get("Output", "")  # noqa: E731
    until(lambda: TINY_READY in console(), "the guest's boot", 150)
    assert len(host.domains()) == 1
    assert [name for name in host.namespaces() if name.startswith("cumulet-")] and not _outside()
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 90})
    until(lambda: host.namespaces() == [], "the end of the VPC's namespace")
    assert host.domains() == []
    assert cloud.terminate() == 0, output.read_text()[-4000:]


def _outside() -> list[str]:
    """Guests that this machine's own libvirt knows of in the harness's folder."""
    listed = subprocess.run(["virsh", "-q", "list", "--all", "--name"], capture_output=True, text=True).stdout.split()
    paths = [subprocess.run(["virsh", "-q", "dumpxml", name], capture_output=True, text=True).stdout for name in listed]
    return [text for text in paths if "/machine-" in text]

"""Where instances go, by what hosts tell of themselves: architecture, capabilities, metrics."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.cloud import Cloud
from harness.ec2 import error_of, refused, run, running, wait
from harness.wait import until

# The first host has fast disks and is busy; the second one is idle.
TWO = """
[fake]
hosts = 2
capabilities = "ssd=true, cpu_info:features=aes avx2; ssd=false, cpu_info:features=aes"
metrics = "cpu.percent=90, memory.percent=50; cpu.percent=3, memory.percent=50"
[scheduler]
metrics_weight_setting = "cpu.percent=-1"
metrics_weight_multiplier = 10
"""

MIXED = """
[fake]
hosts = 2
architecture = "x86_64; arm64"
"""


def hosts(cloud: Cloud, count: int = 2) -> list[dict]:
    """The hosts as the operator sees them, in the order in which they are simulated."""

    def all_alive():
        found = json.loads(cloud.run("admin", "host", "list", "--json"))
        assert len([h for h in found if h["alive"]]) == count
        return sorted(found, key=lambda h: (len(h["host"]), h["host"]))

    return until(all_alive, f"{count} hosts that are alive", 30, every=0.1)


def arm_image(cloud: Cloud, folder: Path) -> str:
    disk = folder / "arm.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1G"], check=True)
    return cloud.run("image", "import", "--name", "arm", "--architecture", "arm64", str(disk))


@pytest.fixture(scope="module")
def two():
    with Cloud("fake", TWO) as cloud:
        hosts(cloud)
        # Before the first launch: a scheduler may know types as they were a second ago.
        type_wants = ("admin", "instance-type", "set")
        cloud.run(*type_wants, "m5.large", "capabilities:ssd=true", "capabilities:cpu_info:features=<in> avx2")
        cloud.run(*type_wants, "m5.xlarge", "capabilities:gpu=true")
        yield cloud


def test_what_hosts_tell_is_shown(two: Cloud):
    busy, idle = hosts(two)
    for host, ssd, percent in ((busy, "true", 90), (idle, "false", 3)):
        assert (host["architecture"], host["hypervisor"]) == ("x86_64", "fake")
        assert (host["hypervisor_type"], host["hypervisor_version"]) == ("fake", "1")
        assert host["capabilities"]["ssd"] == ssd
        assert host["metrics"] == {"cpu.percent": percent, "memory.percent": 50}
    (shown,) = json.loads(two.run("admin", "host", "show", "--json", idle["host"]))
    assert shown["capabilities"] == idle["capabilities"]
    text = two.run("admin", "host", "show", busy["host"])
    assert "cpu_info:features  aes avx2" in text and "cpu.percent  90" in text
    missing = two.execute("admin", "host", "show", "nowhere")
    assert missing.returncode != 0 and "no such host" in missing.stderr


@pytest.mark.roles
def test_the_idle_host_is_preferred(two: Cloud):
    account = two.account()
    busy, idle = hosts(two)
    ids = running(account, 4)
    _, after = hosts(two)
    assert set(after["instances"]) - set(idle["instances"]) == set(ids), "all of them on the idle host"


def test_a_type_goes_where_its_capabilities_are(two: Cloud):
    account = two.account()
    ids = running(account, 3, InstanceType="m5.large")
    busy, idle = hosts(two)
    assert set(ids) <= set(busy["instances"]), "however busy it is"
    assert not set(ids) & set(idle["instances"])


def test_a_type_that_no_host_is_good_for(two: Cloud):
    account = two.account()
    with refused("InsufficientInstanceCapacity", 500) as caught:
        run(account, InstanceType="m5.xlarge")
    message = str(caught.value)
    assert "No host has the capabilities gpu true" in message and "filter" not in message
    two.run("admin", "instance-type", "set", "m5.xlarge", "capabilities:gpu")
    code, _ = error_of(run, account, InstanceType="m5.xlarge")
    assert code == "ok", "a refusal stands only by what is so now"


def test_an_image_of_another_architecture_goes_nowhere(two: Cloud, tmp_path: Path):
    account = two.account()
    with refused("InsufficientInstanceCapacity", 500) as caught:
        run(account, ImageId=arm_image(two, tmp_path))
    message = str(caught.value)
    assert "No host runs images of architecture arm64" in message, message


def test_each_architecture_has_its_host(tmp_path: Path):
    with Cloud("fake", MIXED) as cloud:
        first, second = hosts(cloud)
        assert [first["architecture"], second["architecture"]] == ["x86_64", "arm64"]
        account = cloud.first_account()
        ours = running(account, 3)
        theirs = run(account, 3, ImageId=arm_image(cloud, tmp_path))
        wait(account, theirs, "running")
        first, second = hosts(cloud)
        assert set(first["instances"]) == set(ours)
        assert set(second["instances"]) == set(theirs)
        # What a host is outlives the process: it is known before the host beats again.
        cloud.restart()
        again = hosts(cloud)
        assert [h["architecture"] for h in again] == ["x86_64", "arm64"]

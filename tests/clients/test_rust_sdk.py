"""AWS's SDK for Rust: what Kubernetes' EBS driver does with a claim, by the program in tests/sdk."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from harness import volumes
from harness.cloud import Account
from harness.ec2 import running

PROGRAM = os.environ.get("CUMULET_SDK_CLIENT", "")

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(
        not PROGRAM or not Path(PROGRAM).exists(),
        reason="AWS's SDK for Rust: tests/sdk is not built (scripts/test-clients builds it where cargo can)",
    ),
]


def steps(account: Account, node: str) -> dict[str, str]:
    """What came of each of the program's steps."""
    environment = {
        "AWS_ENDPOINT_URL": account.cloud.endpoint, "AWS_ACCESS_KEY_ID": account.key.id,
        "AWS_SECRET_ACCESS_KEY": account.key.secret, "ZONE": volumes.zone(account), "NODE": node,
        "TOKEN": hashlib.sha256(b"pvc-1").hexdigest(),
    }  # fmt: skip
    done = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


def test_the_life_of_a_claim(account: Account):
    (node,) = running(account)
    took = steps(account, node)
    codes = {
        "health": "DryRunOperation", "mismatch": "IdempotentParameterMismatch", "rehearsed": "DryRunOperation",
        "limit": "InvalidParameterValue", "batch": "InvalidVolume.NotFound", "twice": "VolumeInUse",
        "never grown": "InvalidVolumeModification.NotFound", "snapshot gone": "InvalidSnapshot.NotFound",
        "in use": "VolumeInUse", "detached already": "IncorrectState", "gone": "InvalidVolume.NotFound",
    }  # fmt: skip
    assert {step: took[step].split(":")[0] for step in codes} == codes
    assert "maximum is 80000" in took["limit"]
    values = {
        "made": "creating", "again": "true", "size": "4", "created": "true", "named": "1", "attaching": "/dev/xvdaa",
        "attached": "/dev/xvdaa", "mapped": "true", "growing": "true", "grown": "6", "status": "true", "snapshot": "6",
        "completed": "1", "snapshot deleted": "ok", "detaching": "ok", "deleted": "ok",
    }  # fmt: skip
    assert {step: took[step] for step in values} == values
    assert set(took) == set(codes) | set(values)
    # The root's alone is left.
    (left,) = account.ec2.describe_volumes()["Volumes"]
    assert left["Attachments"][0]["InstanceId"] == node and account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []

"""What Kubernetes' driver for EBS volumes asks for and goes by, operation by operation: its 19, as its source has them.

Codes and texts that it looks for are in process too (gateway/src/tests/volumes.rs); here they come through a stock SDK.
"""

import hashlib
import re

import pytest
from botocore.exceptions import ClientError

from harness import volumes
from harness.cloud import Account
from harness.ec2 import error_of, filters, instance, refused, running
from harness.wait import until

NAME, SNAPSHOT_NAME, CLUSTER = "CSIVolumeName", "CSIVolumeSnapshotName", "ebs.csi.aws.com/cluster"

# By what the driver finds out how many IOPS a volume of a type may have.
TOO_HIGH = re.compile(r"(?i)volume iops.*is too high.*maximum is (\d+)")
IN_THOUSANDS = re.compile(r"(?i)(\d+)K IOPS")


def token(name: str) -> str:
    """Of a volume's name, 64 digits."""
    return hashlib.sha256(name.encode()).hexdigest()


def tagged(kind: str, **tags: str) -> list[dict]:
    pairs = [{"Key": key, "Value": value} for key, value in (tags | {CLUSTER: "true"}).items()]
    return [{"ResourceType": kind, "Tags": pairs}]


def wanted(account: Account, name: str, **more) -> dict:
    """CreateVolume's parameters for a claim: what is not asked for is said to be off."""
    return {
        "AvailabilityZone": volumes.zone(account), "ClientToken": token(name), "Size": 4, "VolumeType": "gp3",
        "Encrypted": False, "MultiAttachEnabled": False, "TagSpecifications": tagged("volume", CSIVolumeName=name),
    } | more  # fmt: skip


def provision(account: Account, name: str, **more) -> str:
    """A claim's volume, once it is available."""
    id = account.ec2.create_volume(**wanted(account, name, **more))["VolumeId"]
    volumes.wait_free(account, id)
    return id


def message_of(call, **given) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**given)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_zones_and_the_health_check(account: Account, ec2):
    (zone,) = ec2.describe_availability_zones()["AvailabilityZones"]
    assert zone["ZoneName"] and zone["ZoneId"]
    assert error_of(ec2.describe_availability_zones, DryRun=True) == ("DryRunOperation", 412)


def test_a_claim_is_one_volume_however_often_it_is_asked_for(account: Account, ec2):
    claim = wanted(account, "pvc-1", Size=10, Iops=3500, Throughput=200)
    made = [ec2.create_volume(**claim) for _ in range(3)]
    assert len({volume["VolumeId"] for volume in made}) == 1 and {volume["Size"] for volume in made} == {10}
    with refused("IdempotentParameterMismatch"):
        ec2.create_volume(**claim | {"Iops": 4000})
    # Then it takes the next token, of the name and a number.
    again = ec2.create_volume(**claim | {"Iops": 4000, "ClientToken": token("pvc-1-2")})
    assert again["VolumeId"] != made[0]["VolumeId"]
    # By the zone's id instead of its name, and without what it leaves out.
    by_id = wanted(account, "pvc-2", AvailabilityZoneId=ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneId"])
    del by_id["AvailabilityZone"]
    assert ec2.create_volume(**by_id)["AvailabilityZone"] == volumes.zone(account)
    with refused("InvalidSnapshot.NotFound"):
        ec2.create_volume(**wanted(account, "pvc-3", SnapshotId="snap-0123456789abcdef0"))


@pytest.mark.parametrize("asked", [{"MultiAttachEnabled": True}, {"VolumeInitializationRate": 100}], ids=str)
def test_what_no_volume_can_have_here_is_said_by_name(account: Account, ec2, asked):
    """The driver shows the text as it is, and takes the code for a mistake of the storage class."""
    code, message = message_of(ec2.create_volume, **wanted(account, "pvc", **asked))
    assert code == "UnsupportedOperation" and next(iter(asked)) in message
    assert ec2.describe_volumes()["Volumes"] == []


def test_a_storage_class_may_ask_for_encryption_and_for_the_one_key_that_there_is(account: Account, ec2):
    key = ec2.get_ebs_default_kms_key_id()["KmsKeyId"]
    for number, more in enumerate(({}, {"KmsKeyId": key})):
        made = ec2.create_volume(**wanted(account, f"pvc-{number}", Encrypted=True, **more))
        assert made["Encrypted"] and key in made["KmsKeyId"]
    code, message = message_of(ec2.create_volume, **wanted(account, "pvc", Encrypted=True, KmsKeyId="alias/k"))
    assert code == "InvalidParameterValue" and "alias/k" in message
    code, _ = message_of(ec2.create_volume, **wanted(account, "pvc", KmsKeyId=key))
    assert code == "InvalidParameterDependency"


@pytest.mark.parametrize("kind, limit", [("gp3", 80000), ("io1", 64000), ("io2", 256), ("gp2", None)])
def test_how_many_iops_there_may_be_is_found_out_without_a_volume(account: Account, ec2, kind, limit):
    probe = {"AvailabilityZone": volumes.zone(account), "Size": 4, "Iops": 2147483647, "VolumeType": kind, "DryRun": True}
    _, message = message_of(ec2.create_volume, **probe)
    found = TOO_HIGH.search(message) or IN_THOUSANDS.search(message)
    if limit:
        assert found and int(found[1]) == limit, message
    else:
        assert "parameter iops is not supported" in message.lower(), message
    assert ec2.describe_volumes()["Volumes"] == []


def test_volumes_are_asked_for_in_batches(account: Account, ec2):
    made = {f"pvc-{n}": ec2.create_volume(**wanted(account, f"pvc-{n}"))["VolumeId"] for n in range(12)}
    ids, names = list(made.values()), list(made)
    assert {volume["VolumeId"] for volume in ec2.describe_volumes(VolumeIds=ids)["Volumes"]} == set(ids)
    by_name = [{"Name": f"tag:{NAME}", "Values": names[:10]}]
    found, page = {}, {}
    while page is not None:
        answer = ec2.describe_volumes(Filters=by_name, MaxResults=5, **page)
        for volume in answer["Volumes"]:
            tags = {tag["Key"]: tag["Value"] for tag in volume["Tags"]}
            found[tags[NAME]] = volume["VolumeId"]
        page = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else None
    assert found == {name: made[name] for name in names[:10]}
    # The whole of a claim.
    (one,) = ec2.describe_volumes(Filters=[{"Name": f"tag:{NAME}", "Values": ["pvc-11"]}])["Volumes"]
    assert (one["VolumeId"], one["Size"], one["SnapshotId"]) == (made["pvc-11"], 4, "") and one["AvailabilityZone"]
    assert "OutpostArn" not in one
    assert ec2.describe_volumes(Filters=[{"Name": f"tag:{NAME}", "Values": ["pvc-99"]}])["Volumes"] == []
    # One that is not there fails the batch; the driver then asks for each by itself.
    with refused("InvalidVolume.NotFound"):
        ec2.describe_volumes(VolumeIds=[*ids, "vol-0123456789abcdef0"])


def test_a_volume_comes_to_its_node_and_goes(account: Account, ec2):
    node, other = running(account, 2)
    volume, second = provision(account, "pvc-1"), provision(account, "pvc-2")
    assert ec2.attach_volume(VolumeId=volume, InstanceId=node, Device="/dev/xvdaa")["Device"] == "/dev/xvdaa"
    volumes.wait_attached(account, volume, node)
    # It waits for ever where the device is not what it has asked for.
    (attachment,) = volumes.describe(account, volume)["Attachments"]
    assert (attachment["InstanceId"], attachment["Device"], attachment["State"]) == (node, "/dev/xvdaa", "attached")
    # And takes free names from what the node's description has: both disks.
    devices = {mapping["DeviceName"]: mapping["Ebs"]["VolumeId"] for mapping in instance(ec2, node)["BlockDeviceMappings"]}
    assert devices["/dev/xvdaa"] == volume and len(devices) == 2
    with refused("InvalidParameterValue", message="already in use"):
        ec2.attach_volume(VolumeId=second, InstanceId=node, Device="/dev/xvdaa")
    with refused("VolumeInUse"):
        ec2.attach_volume(VolumeId=volume, InstanceId=other, Device="/dev/xvdaa")
    volumes.attach(account, second, node, "/dev/xvdab")
    with refused("InvalidAttachment.NotFound"):
        ec2.detach_volume(VolumeId=second, InstanceId=other)
    for each in (volume, second):
        ec2.detach_volume(VolumeId=each, InstanceId=node)
        volumes.wait_free(account, each)
        assert volumes.describe(account, each)["Attachments"] == []
    # What is gone already.
    with refused("IncorrectState"):
        ec2.detach_volume(VolumeId=volume, InstanceId=node)
    ec2.delete_volume(VolumeId=volume)
    volumes.wait_gone(account, volume)
    for call, more in ((ec2.detach_volume, {"InstanceId": node}), (ec2.delete_volume, {})):
        with refused("InvalidVolume.NotFound"):
            call(VolumeId=volume, **more)


def test_a_node_takes_no_more_than_it_can(account: Account, ec2):
    (node,) = running(account)
    refusal = None
    for n in range(40):
        volume = provision(account, f"pvc-{n}", Size=1)
        device = "/dev/xvd" + "bcdef"[n // 26] + chr(ord("a") + n % 26)
        refusal = error_of(ec2.attach_volume, VolumeId=volume, InstanceId=node, Device=device)
        if refusal != ("ok", 200):
            break
    assert refusal == ("AttachmentLimitExceeded", 400)


def test_nodes_are_asked_for_in_batches(account: Account, ec2):
    nodes = running(account, 3)
    assert {
        i["InstanceId"] for r in ec2.describe_instances(InstanceIds=nodes)["Reservations"] for i in r["Instances"]
    } == set(nodes)
    with refused("InvalidInstanceID.NotFound"):
        ec2.describe_instances(InstanceIds=[*nodes, "i-0123456789abcdef0"])
    (kind,) = ec2.describe_instance_types(InstanceTypes=["t3.nano"])["InstanceTypes"]
    # Where it is missing, the driver has a table.
    assert kind.get("EbsInfo", {}).get("MaximumEbsCards", 1) == 1


def test_a_volume_grows_and_says_so(account: Account, ec2):
    volume, other = provision(account, "pvc-1"), provision(account, "pvc-2")
    with refused("InvalidVolumeModification.NotFound"):
        ec2.describe_volumes_modifications(VolumeIds=[other])
    started = ec2.modify_volume(VolumeId=volume, Size=8, Iops=4000, Throughput=250)["VolumeModification"]
    assert started["ModificationState"] in ("modifying", "optimizing", "completed") and started["VolumeId"] == volume
    done = until(
        lambda: ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"][-1]["ModificationState"]
        in ("optimizing", "completed"),
        f"{volume} is modified", 60, every=0.1,
    )  # fmt: skip
    assert done
    seen = volumes.describe(account, volume)
    assert (seen["Size"], seen["Iops"], seen["Throughput"], seen["VolumeType"]) == (8, 4000, 250, "gp3")
    # What it takes for a mistake of who asks.
    for bad in ({"Size": 1}, {"Iops": 2147483647}, {"Throughput": 99999}):
        code, _ = message_of(ec2.modify_volume, VolumeId=other, **bad)
        assert code in ("InvalidParameterValue", "InvalidParameterCombination"), (bad, code)
    assert message_of(ec2.modify_volume, VolumeId=other, VolumeType="gp9")[0] in (
        "InvalidParameterValue",
        "UnknownVolumeType",
    )


def test_how_a_volume_is(account: Account, ec2):
    volume = provision(account, "pvc-1")
    (status,) = ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"]
    assert status["VolumeStatus"]["Status"] == "ok" and status["VolumeStatus"]["Details"]
    (first, *_) = status["VolumeStatus"]["Details"]
    assert first["Name"] and first["Status"]


def test_the_life_of_a_snapshot(account: Account, ec2):
    volume = provision(account, "pvc-1")
    description = f"Created by AWS EBS CSI driver for volume {volume}"
    taken = {}
    for name in ("snap-a", "snap-b"):
        specification = tagged("snapshot", CSIVolumeSnapshotName=name)
        answer = ec2.create_snapshot(VolumeId=volume, Description=description, TagSpecifications=specification)
        assert (answer["VolumeId"], answer["VolumeSize"], answer["State"]) == (volume, 4, "pending") and answer["StartTime"]
        taken[name] = answer["SnapshotId"]
        volumes.wait_completed(account, answer["SnapshotId"])
    by_name = ec2.describe_snapshots(Filters=[{"Name": f"tag:{SNAPSHOT_NAME}", "Values": list(taken)}])["Snapshots"]
    assert {t["Value"]: s["SnapshotId"] for s in by_name for t in s["Tags"] if t["Key"] == SNAPSHOT_NAME} == taken
    by_id = ec2.describe_snapshots(SnapshotIds=list(taken.values()))["Snapshots"]
    assert {snapshot["State"] for snapshot in by_id} == {"completed"}
    # A listing of a volume's: without a limit the driver says 0.
    of_volume = {"Filters": filters(volume_id=[volume])}
    for limit in (0, 5):
        listed = ec2.describe_snapshots(MaxResults=limit, **of_volume)["Snapshots"]
        assert {snapshot["SnapshotId"] for snapshot in listed} == set(taken.values())
    restored = provision(account, "pvc-2", SnapshotId=taken["snap-a"])
    assert volumes.describe(account, restored)["SnapshotId"] == taken["snap-a"]
    ec2.delete_snapshot(SnapshotId=taken["snap-a"], DryRun=False)
    for call in (ec2.delete_snapshot, lambda SnapshotId: ec2.describe_snapshots(SnapshotIds=[SnapshotId])):
        with refused("InvalidSnapshot.NotFound"):
            call(SnapshotId=taken["snap-a"])
    assert volumes.describe(account, restored)["State"] == "available"


def test_tags_come_and_go(account: Account, ec2):
    volume = provision(account, "pvc-1")
    ec2.create_tags(Resources=[volume], Tags=[{"Key": "team", "Value": "a"}, {"Key": "empty", "Value": ""}])
    ec2.delete_tags(Resources=[volume], Tags=[{"Key": "team"}])
    tags = {tag["Key"]: tag["Value"] for tag in volumes.describe(account, volume)["Tags"]}
    assert tags == {NAME: "pvc-1", CLUSTER: "true", "empty": ""}


def test_a_clone_of_a_claim_is_one_volume_of_its_own(account: Account, ec2):
    source = provision(account, "pvc-1")
    size = volumes.describe(account, source)["Size"]
    tags = wanted(account, "pvc-2")["TagSpecifications"]
    clone = {"SourceVolumeId": source, "Size": size + 1, "VolumeType": "gp3", "TagSpecifications": tags}
    (made,) = ec2.copy_volumes(**clone)["Volumes"]
    assert (made["SourceVolumeId"], made["Size"]) == (source, size + 1) and made["VolumeId"] != source
    volumes.wait_free(account, made["VolumeId"])
    found = ec2.describe_volumes(Filters=[{"Name": f"tag:{NAME}", "Values": ["pvc-2"]}])["Volumes"]
    assert [volume["VolumeId"] for volume in found] == [made["VolumeId"]]
    with refused("InvalidVolume.NotFound"):
        ec2.copy_volumes(**clone | {"SourceVolumeId": "vol-0123456789abcdef0"})


def test_what_is_not_served_is_refused_as_the_driver_expects_it(account: Account, ec2):
    """Fast restores and locks: only where a class asks for them."""
    volume = provision(account, "pvc-1")
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    zones = [volumes.zone(account)]
    for call, given in (
        (ec2.enable_fast_snapshot_restores, {"AvailabilityZones": zones, "SourceSnapshotIds": [snapshot]}),
        (ec2.lock_snapshot, {"SnapshotId": snapshot, "LockMode": "governance", "LockDuration": 1}),
    ):
        with refused("UnsupportedOperation"):
            call(**given)

"""Placement groups: made, launched into, seen, deleted."""

import pytest

from harness.cloud import Account
from harness.ec2 import filters, instances, refused, run


@pytest.mark.roles
def test_a_group_is_made_launched_into_and_deleted(account: Account, ec2):
    made = ec2.create_placement_group(GroupName="web", Strategy="partition", PartitionCount=3)["PlacementGroup"]
    assert (made["State"], made["Strategy"], made["PartitionCount"]) == ("available", "partition", 3)
    assert made["GroupId"].startswith("pg-") and made["GroupArn"].endswith(":placement-group/web")
    (seen,) = ec2.describe_placement_groups(GroupNames=["web"])["PlacementGroups"]
    assert seen["GroupId"] == made["GroupId"]
    assert ec2.describe_placement_groups(Filters=filters(group_arn=[made["GroupArn"]]))["PlacementGroups"] == [seen]
    with refused("InvalidPlacementGroup.Duplicate"):
        ec2.create_placement_group(GroupName="web", Strategy="cluster")
    with refused("InvalidPlacementGroup.Unknown"):
        ec2.describe_placement_groups(GroupNames=["nobody"])
    run(account, Placement={"GroupName": "web", "PartitionNumber": 2})
    (instance,) = instances(ec2)
    placement = instance["Placement"]
    assert (placement["GroupName"], placement["GroupId"], placement["PartitionNumber"]) == ("web", made["GroupId"], 2)
    with refused("InvalidPlacementGroup.InUse"):
        ec2.delete_placement_group(GroupName="web")
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance["InstanceId"]])
    ec2.delete_placement_group(GroupName="web")
    assert ec2.describe_placement_groups()["PlacementGroups"] == []

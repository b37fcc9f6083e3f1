//! Codes and sentences that clients match, to the letter.

use super::*;

async fn refusal(world: &World, call: &str) -> (String, String) {
    let refusal = world.try_as(&world.who, &format!("Action={call}")).await;
    let refusal = refusal.err().unwrap_or_else(|| panic!("{call} was accepted"));
    (refusal.code.into_owned(), refusal.message)
}

#[tokio::test]
async fn protection() {
    let world = World::new().await;
    let stop = world.run(1, "&DisableApiStop=true").await.remove(0);
    let end = world.run(1, "&DisableApiTermination=true").await.remove(0);
    for (call, effect, id, attribute) in [
        ("TerminateInstances", "terminated", &stop, "disableApiStop"),
        ("TerminateInstances", "terminated", &end, "disableApiTermination"),
    ] {
        let expected = format!(
            "The instance '{id}' may not be {effect}. Modify its '{attribute}' instance attribute and try again."
        );
        assert_eq!(
            refusal(&world, &format!("{call}&InstanceId.1={id}")).await,
            ("OperationNotPermitted".into(), expected)
        );
    }
    // They still run, and end when the attribute is taken away.
    for (id, attribute) in [(&stop, "DisableApiStop"), (&end, "DisableApiTermination")] {
        world
            .ask(&format!(
                "Action=ModifyInstanceAttribute&InstanceId={id}&{attribute}.Value=false"
            ))
            .await;
        world
            .ask(&format!("Action=TerminateInstances&InstanceId.1={id}"))
            .await;
    }
}

#[tokio::test]
async fn what_is_compared_or_searched_by_clients() {
    let world = World::new().await;
    let (id, ended) = (world.run(1, "").await.remove(0), world.run(1, "").await.remove(0));
    world
        .ask(&format!("Action=TerminateInstances&InstanceId.1={ended}"))
        .await;
    world
        .ask("Action=CreatePlacementGroup&GroupName=used&Strategy=spread")
        .await;
    world.run(1, "&Placement.GroupName=used").await;
    let key = |key: &str| {
        format!(
            "'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{{1,255}}), and must \
             not be a reserved name ('.', '..', '_index')"
        )
    };
    let run = "RunInstances&ImageId={image}&MinCount=1&MaxCount=1";
    let readable = "&MetadataOptions.InstanceMetadataTags=enabled&TagSpecification.1.ResourceType=instance";
    for (call, code, sentence) in [
        (
            "TerminateInstances".to_owned(),
            "InvalidParameterCombination",
            "No instances specified".to_owned(),
        ),
        (
            "StopInstances".into(),
            "InvalidParameterCombination",
            "No instances specified".into(),
        ),
        (
            "StartInstances".into(),
            "InvalidParameterCombination",
            "No instances specified".into(),
        ),
        (
            "RebootInstances".into(),
            "InvalidParameterCombination",
            "No instances specified".into(),
        ),
        (
            "DescribeInstanceTypes&InstanceType.1=x9.a&InstanceType.2=t3.nano&InstanceType.3=x9.b".into(),
            "InvalidInstanceType",
            "The following supplied instance types do not exist: [x9.a, x9.b]".into(),
        ),
        (
            format!("{run}&Placement.AvailabilityZone=mars-1a"),
            "InvalidParameterValue",
            "Invalid availability zone: [mars-1a]".into(),
        ),
        (
            "DescribeAvailabilityZones&ZoneName.1=us-east-1a&ZoneName.2=mars-1a".into(),
            "InvalidParameterValue",
            "Invalid availability zone: [mars-1a]".into(),
        ),
        (
            "DeletePlacementGroup&GroupName=used".into(),
            "InvalidPlacementGroup.InUse",
            "The placement group 'used' is in use and may not be deleted.".into(),
        ),
        (
            format!("{run}&InstanceType=x9.huge"),
            "InvalidParameterValue",
            "Invalid value 'x9.huge' for InstanceType.".into(),
        ),
        (
            format!("ModifyInstanceAttribute&InstanceId={id}&BlockDeviceMapping.1.DeviceName=/dev/sdz"),
            "InvalidInstanceAttributeValue",
            "No device is currently mapped at /dev/sdz".into(),
        ),
        (
            format!("StartInstances&InstanceId.1={ended}"),
            "IncorrectInstanceState",
            format!("The instance '{ended}' is not in a state from which it can be started."),
        ),
        (
            format!("StopInstances&InstanceId.1={ended}"),
            "IncorrectInstanceState",
            format!("The instance '{ended}' is not in a state from which it can be stopped."),
        ),
        (
            format!("StopInstances&InstanceId.1={id}"),
            "IncorrectInstanceState",
            format!("Instance '{id}' cannot be stopped as it has never reached the 'running' state."),
        ),
        (
            format!("ModifyInstanceAttribute&InstanceId={id}&InstanceType.Value=t3.small"),
            "IncorrectInstanceState",
            format!("The instance '{id}' is not in the 'stopped' state."),
        ),
        (
            "DescribeInstances&InstanceId.1=".into(),
            "MissingParameter",
            "The request must contain the parameter InstanceId".into(),
        ),
        (
            "DescribeInstances&InstanceId.1=i-nonsense".into(),
            "InvalidInstanceID.Malformed",
            "Invalid id: \"i-nonsense\"".into(),
        ),
        (
            "DescribeInstances&InstanceId.1=vol-0123456789abcdef0".into(),
            "InvalidInstanceID.Malformed",
            "Invalid id: \"vol-0123456789abcdef0\" (expecting \"i-...\")".into(),
        ),
        (
            "DescribeImages&ImageId.1=ami-0123456789abcdef0".into(),
            "InvalidAMIID.NotFound",
            "The image id '[ami-0123456789abcdef0]' does not exist".into(),
        ),
        (
            "CreateTags&ResourceId.1=nonsense&Tag.1.Key=a".into(),
            "InvalidID",
            "The ID 'nonsense' is not valid".into(),
        ),
        (
            "DescribePlacementGroups&GroupName.1=racks".into(),
            "InvalidPlacementGroup.Unknown",
            "The Placement Group 'racks' is unknown.".into(),
        ),
        (
            format!("{run}{readable}&TagSpecification.1.Tag.1.Key=Patch+Group"),
            "InvalidParameterValue",
            key("Patch Group"),
        ),
    ] {
        assert_eq!(refusal(&world, &call).await, (code.into(), sentence), "{call}");
    }
}

/// Where an instance can read its tags, no call brings it one that it can't.
#[tokio::test]
async fn tags_that_an_instance_could_not_read() {
    let world = World::new().await;
    let enable = "&MetadataOptions.InstanceMetadataTags=enabled";
    let bad = ["Patch+Group", ".", "..", "_index", "a/b", "%C3%A9", "1=a"];
    let reads = world.run(1, enable).await.remove(0);
    for key in bad {
        let tagged = format!("&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key={key}");
        let blind = world.run(1, &tagged).await.remove(0);
        for call in [
            format!("RunInstances&ImageId={{image}}&MinCount=1&MaxCount=1{enable}{tagged}"),
            format!("CreateTags&ResourceId.1={reads}&Tag.1.Key=fine&Tag.2.Key={key}"),
            format!("CreateTags&ResourceId.1={blind}&ResourceId.2={reads}&Tag.1.Key={key}"),
            format!("ModifyInstanceMetadataOptions&InstanceId={blind}&InstanceMetadataTags=enabled"),
        ] {
            let (code, sentence) = refusal(&world, &call).await;
            assert_eq!(code, "InvalidParameterValue", "{call}");
            assert!(sentence.contains("is not a valid tag key"), "{call}: {sentence}");
        }
        // Without it such a key is as good as any, and the volume's tags are nobody's to read.
        for call in [
            format!("CreateTags&ResourceId.1={blind}&Tag.1.Key={key}"),
            format!("ModifyInstanceMetadataOptions&InstanceId={blind}&HttpTokens=required"),
            format!(
                "RunInstances&ImageId={{image}}&MinCount=1&MaxCount=1{enable}&\
                 TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key={key}"
            ),
        ] {
            world.ask(&format!("Action={call}")).await;
        }
    }
    let left = format!("Action=DescribeTags&Filter.1.Name=resource-id&Filter.1.Value.1={reads}");
    assert!(world.ask(&left).await.contains("<tagSet/>"));
}

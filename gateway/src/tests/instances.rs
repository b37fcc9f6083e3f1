//! Launching and describing instances.

use super::*;

#[tokio::test]
async fn a_launch_is_pending_and_complete_enough_for_old_and_new_clients() {
    let world = World::new().await;
    let xml = world
        .ask(
            "Action=RunInstances&ImageId={image}&MinCount=2&MaxCount=2&InstanceType=t3.nano&\
             TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name&\
             TagSpecification.1.Tag.1.Value=web&Version=2015-10-01",
        )
        .await;
    assert!(xml.contains("<RunInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2015-10-01/\"><requestId>req-1</requestId>"));
    assert_eq!(all(&xml, "instancesSet").len(), 1);
    assert_eq!(all(&xml, "amiLaunchIndex"), ["0", "1"]);
    assert!(xml.contains("<instanceState><code>0</code><name>pending</name></instanceState>"));
    // What euca2ools and Terraform can't do without.
    for element in [
        "reservationId",
        "launchTime",
        "groupId",
        "privateDnsName",
        "networkInterfaceId",
        "volumeId",
        "httpTokens",
    ] {
        assert!(!one(&xml, element).is_empty(), "{element}");
    }
    assert!(
        xml.contains("<groupSet/>"),
        "a reservation's groups are an empty list"
    );
    assert!(
        xml.contains("<monitoring><metricCategoryIdSet/><state>disabled</state></monitoring>")
            || xml.contains("<state>disabled</state>")
    );
    assert!(xml.contains("<state>applied</state>"), "metadata options");
    let public = one(&xml, "publicIp");
    assert_eq!(
        all(&xml, "publicIp").iter().filter(|ip| **ip == public).count(),
        2,
        "on the interface and on its address"
    );
    let shown = world.ask("Action=DescribeInstances").await;
    assert_eq!(all(&shown, "reservationId").len(), 1);
    assert_eq!(all(&shown, "value"), ["web", "web"]);
}

#[tokio::test]
async fn life_by_the_state_changes() {
    let world = World::new().await;
    let ids = world.run(2, "").await;
    let both = format!("InstanceId.1={}&InstanceId.10={}", ids[0], ids[1]);
    let xml = world.ask(&format!("Action=TerminateInstances&{both}")).await;
    assert_eq!(all(&xml, "instanceId"), ids);
    assert_eq!(
        all(&xml, "name"),
        ["shutting-down", "pending", "shutting-down", "pending"]
    );
    // Again changes nothing; starting what ends is refused.
    world.ask(&format!("Action=TerminateInstances&{both}")).await;
    assert_eq!(
        world
            .refused(&format!("Action=StartInstances&InstanceId.1={}", ids[0]))
            .await,
        "IncorrectInstanceState"
    );
}

#[tokio::test]
async fn protection_and_attributes() {
    let world = World::new().await;
    let id = world
        .run(1, "&DisableApiTermination=true&UserData=aGVsbG8=")
        .await
        .remove(0);
    assert_eq!(
        world
            .refused(&format!("Action=TerminateInstances&InstanceId.1={id}"))
            .await,
        "OperationNotPermitted"
    );
    for (attribute, expected) in [
        (
            "disableApiTermination",
            "<disableApiTermination><value>true</value></disableApiTermination>",
        ),
        (
            "disableApiStop",
            "<disableApiStop><value>false</value></disableApiStop>",
        ),
        ("userData", "<userData><value>aGVsbG8=</value></userData>"),
        (
            "instanceInitiatedShutdownBehavior",
            "<instanceInitiatedShutdownBehavior><value>stop</value></instanceInitiatedShutdownBehavior>",
        ),
        (
            "instanceType",
            "<instanceType><value>t3.nano</value></instanceType>",
        ),
        ("kernel", "<kernel></kernel>"),
        ("groupSet", "<groupName>default</groupName>"),
    ] {
        let xml = world
            .ask(&format!(
                "Action=DescribeInstanceAttribute&InstanceId={id}&Attribute={attribute}"
            ))
            .await;
        assert!(xml.contains(expected), "{attribute}: {xml}");
    }
    world
        .ask(&format!(
            "Action=ModifyInstanceAttribute&InstanceId={id}&DisableApiTermination.Value=false"
        ))
        .await;
    world
        .ask(&format!("Action=TerminateInstances&InstanceId.1={id}"))
        .await;
}

#[tokio::test]
async fn metadata_options_change() {
    let world = World::new().await;
    let id = world.run(1, "").await.remove(0);
    let xml = world
        .ask(&format!(
            "Action=ModifyInstanceMetadataOptions&InstanceId={id}&HttpTokens=required"
        ))
        .await;
    assert_eq!(one(&xml, "httpTokens"), "required");
    let shown = world
        .ask("Action=DescribeInstances&Filter.1.Name=metadata-options.http-tokens&Filter.1.Value.1=required")
        .await;
    assert_eq!(all(&shown, "instanceId"), [id]);
}

#[tokio::test]
async fn a_client_token_launches_once() {
    let world = World::new().await;
    let ids = world.run(1, "&ClientToken=one").await;
    // Sent again, in another order and signed anew.
    let again = "Version=2016-11-15&ClientToken=one&InstanceType=t3.nano&MaxCount=1&MinCount=1&ImageId={image}&Action=RunInstances";
    assert_eq!(all(&world.ask(again).await, "instanceId"), ids);
    let other = again.replace("t3.nano", "t3.micro");
    assert_eq!(world.refused(&other).await, "IdempotentParameterMismatch");
    world.run(1, "&ClientToken=two").await;
    assert_eq!(
        all(&world.ask("Action=DescribeInstances").await, "reservationId").len(),
        2
    );
    assert_eq!(
        world
            .refused(&again.replace("=one", &format!("={}", "x".repeat(65))))
            .await,
        "InvalidParameterValue"
    );
}

#[tokio::test]
async fn status_is_for_running_instances_unless_all_are_asked_for() {
    let world = World::new().await;
    let id = world.run(1, "").await.remove(0);
    assert!(
        world
            .ask("Action=DescribeInstanceStatus")
            .await
            .contains("<instanceStatusSet/>")
    );
    let xml = world
        .ask("Action=DescribeInstanceStatus&IncludeAllInstances=true")
        .await;
    assert_eq!(all(&xml, "instanceId"), [id]);
    assert!(xml.contains("<status>initializing</status>"));
}

#[tokio::test]
async fn types_in_two_shapes() {
    let world = World::new().await;
    let amazon = world
        .ask("Action=DescribeInstanceTypes&InstanceType.1=t3.nano")
        .await;
    assert_eq!(one(&amazon, "burstablePerformanceSupported"), "false");
    assert_eq!(one(&amazon, "sizeInMiB"), "512");
    let eucalyptus = world
        .ask("Action=DescribeInstanceTypes&Version=2015-10-01&InstanceType.1=t3.nano")
        .await;
    assert_eq!(one(&eucalyptus, "name"), "t3.nano");
    assert_eq!(one(&eucalyptus, "memory"), "512");
    assert!(eucalyptus.contains("<availability/>"), "{eucalyptus}");
    let room = "Action=DescribeInstanceTypes&Version=2015-10-01&InstanceType.1=t3.nano&Availability=true";
    let room = world.ask(room).await;
    assert_eq!(
        (one(&room, "zoneName"), one(&room, "max"), one(&room, "available")),
        ("us-east-1a".into(), "500".into(), "500".into())
    );
    assert_eq!(
        world
            .refused("Action=DescribeInstanceTypes&InstanceType.1=x9.huge")
            .await,
        "InvalidParameterValue"
    );
    let offered = world
        .ask("Action=DescribeInstanceTypeOfferings&LocationType=availability-zone&Filter.1.Name=instance-type&Filter.1.Value.1=t3.nano")
        .await;
    assert_eq!(all(&offered, "location"), ["us-east-1a"]);
}

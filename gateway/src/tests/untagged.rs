//! What an untagged resource shows: EC2 leaves the element out for some types and writes an empty one for others.

use super::*;

#[tokio::test]
async fn the_element_of_no_tags() {
    let world = World::new().await;
    let instance = world.run(1, "").await.remove(0);
    world.ask("Action=CreateKeyPair&KeyName=k&KeyType=ed25519").await;
    world
        .ask("Action=CreatePlacementGroup&GroupName=p&Strategy=spread")
        .await;
    // Each listing, what it has of a resource, whether the element is there without tags, and why.
    for (listing, id, empty, _why) in [
        ("DescribeInstances", "instanceId", false, "certain, and moto"),
        ("DescribeImages", "imageId", false, "certain"),
        (
            "DescribeVpcs",
            "vpcId",
            false,
            "clients guard against its absence",
        ),
        ("DescribeSubnets", "subnetId", false, "the command line's example"),
        (
            "DescribeSecurityGroups",
            "groupId",
            false,
            "clients guard against its absence",
        ),
        (
            "DescribePlacementGroups",
            "groupId",
            false,
            "the command line's example",
        ),
        (
            "DescribeKeyPairs",
            "keyPairId",
            true,
            "the command line's example",
        ),
        (
            "DescribeSecurityGroupRules",
            "securityGroupRuleId",
            true,
            "the command line's example",
        ),
        (
            "DescribeNetworkInterfaces",
            "networkInterfaceId",
            true,
            "the command line's example",
        ),
    ] {
        let xml = world.ask(&format!("Action={listing}")).await;
        let first = one(&xml, id);
        assert_eq!(xml.contains("<tagSet/>"), empty, "{listing}: {xml}");
        assert_eq!(xml.contains("tagSet"), empty, "{listing}: {xml}");
        // With a tag all of them have it.
        world
            .ask(&format!(
                "Action=CreateTags&ResourceId.1={first}&Tag.1.Key=a&Tag.1.Value=b"
            ))
            .await;
        let tagged = world.ask(&format!("Action={listing}")).await;
        assert!(
            tagged.contains("<tagSet><item><key>a</key><value>b</value></item></tagSet>"),
            "{listing}: {tagged}"
        );
        world
            .ask(&format!("Action=DeleteTags&ResourceId.1={first}&Tag.1.Key=a"))
            .await;
        let again = world.ask(&format!("Action={listing}")).await;
        assert_eq!(again.contains("<tagSet/>"), empty, "{listing}: {again}");
    }
    assert!(instance.starts_with("i-"));
}

/// As the command line's examples show it; Ansible's `ec2_snapshot` fails where the element is missing.
#[tokio::test]
async fn what_has_just_been_made_shows_that_it_has_no_tags() {
    let world = World::new().await;
    let made = world
        .ask("Action=CreateVolume&AvailabilityZone=us-east-1a&Size=1")
        .await;
    assert!(made.contains("<tagSet/>"), "{made}");
    let volume = one(&made, "volumeId");
    let taken = world
        .ask(&format!("Action=CreateSnapshot&VolumeId={volume}"))
        .await;
    assert!(taken.contains("<tagSet/>"), "{taken}");
    for listing in ["DescribeVolumes", "DescribeSnapshots&Owner.1=self"] {
        let xml = world.ask(&format!("Action={listing}")).await;
        assert!(!xml.contains("tagSet"), "{listing}: {xml}");
    }
}

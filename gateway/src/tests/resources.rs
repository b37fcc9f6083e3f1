//! Everything but instances.

use super::*;

#[tokio::test]
async fn regions_zones_and_the_account() {
    let world = World::new().await;
    let xml = world.ask("Action=DescribeRegions&Version=2016-11-15").await;
    assert!(
        xml.starts_with(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeRegionsResponse \
             xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>req-1</requestId><regionInfo><item>"
        ),
        "{xml}"
    );
    assert_eq!(all(&xml, "regionName"), ["us-east-1"]);
    assert_eq!(
        all(&xml, "regionEndpoint"),
        ["127.0.0.1:8773"],
        "old clients connect to what this says"
    );
    assert_eq!(
        world.refused("Action=DescribeRegions&RegionName.1=mars").await,
        "InvalidParameterValue"
    );
    let none = world
        .ask("Action=DescribeRegions&Filter.1.Name=region-name&Filter.1.Value.1=eu*")
        .await;
    assert!(none.contains("<regionInfo/>"), "{none}");
    let zones = world.ask("Action=DescribeAvailabilityZones").await;
    assert_eq!(
        (one(&zones, "zoneName"), one(&zones, "zoneId")),
        ("us-east-1a".into(), "use1-az1".into())
    );
    let account = world
        .ask("Action=DescribeAccountAttributes&AttributeName.1=supported-platforms")
        .await;
    assert_eq!(all(&account, "attributeValue"), ["VPC"]);
}

#[tokio::test]
async fn the_default_network_is_found_as_clients_look_for_it() {
    let world = World::new().await;
    for filter in ["is-default", "isDefault"] {
        let xml = world
            .ask(&format!(
                "Action=DescribeVpcs&Filter.1.Name={filter}&Filter.1.Value.1=true"
            ))
            .await;
        assert_eq!(all(&xml, "vpcId").len(), 1, "{filter}");
    }
    for filter in ["default-for-az", "defaultForAz"] {
        let xml = world
            .ask(&format!(
                "Action=DescribeSubnets&Filter.1.Name={filter}&Filter.1.Value.1=true"
            ))
            .await;
        assert_eq!(all(&xml, "availabilityZone"), ["us-east-1a"], "{filter}");
    }
}

#[tokio::test]
async fn key_pairs() {
    let world = World::new().await;
    let made = world.ask("Action=CreateKeyPair&KeyName=k&KeyType=ed25519").await;
    assert!(one(&made, "keyMaterial").starts_with("-----BEGIN"));
    assert_eq!(
        world
            .refused("Action=CreateKeyPair&KeyName=k&KeyType=ed25519")
            .await,
        "InvalidKeyPair.Duplicate"
    );
    let shown = world.ask("Action=DescribeKeyPairs&KeyName.1=k").await;
    assert_eq!(one(&shown, "keyFingerprint"), one(&made, "keyFingerprint"));
    assert!(!shown.contains("<publicKey>"));
    let shown = world.ask("Action=DescribeKeyPairs&IncludePublicKey=true").await;
    assert!(one(&shown, "publicKey").starts_with("ssh-ed25519 "));
    assert_eq!(
        world.refused("Action=DescribeKeyPairs&KeyName.1=other").await,
        "InvalidKeyPair.NotFound"
    );
    assert_eq!(
        world
            .refused("Action=ImportKeyPair&KeyName=x&PublicKeyMaterial=aGk=")
            .await,
        "InvalidKey.Format"
    );
    for _ in 0..2 {
        let gone = world.ask("Action=DeleteKeyPair&KeyName=k").await;
        assert_eq!(one(&gone, "return"), "true");
    }
}

#[tokio::test]
async fn security_groups_and_their_rules() {
    let world = World::new().await;
    let made = world
        .ask("Action=CreateSecurityGroup&GroupName=web&GroupDescription=for+the+web")
        .await;
    let group = one(&made, "groupId");
    assert_eq!(
        world
            .refused("Action=CreateSecurityGroup&GroupName=web&GroupDescription=x")
            .await,
        "InvalidGroup.Duplicate"
    );
    let rule = format!(
        "GroupId={group}&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=22&IpPermissions.1.ToPort=22&\
         IpPermissions.1.IpRanges.1.CidrIp=10.1.2.3/8"
    );
    let added = world
        .ask(&format!("Action=AuthorizeSecurityGroupIngress&{rule}"))
        .await;
    assert_eq!(
        (one(&added, "return"), one(&added, "cidrIpv4")),
        ("true".into(), "10.0.0.0/8".into())
    );
    let rule_id = one(&added, "securityGroupRuleId");
    assert_eq!(
        world
            .refused(&format!("Action=AuthorizeSecurityGroupIngress&{rule}"))
            .await,
        "InvalidPermission.Duplicate"
    );
    let shown = world
        .ask("Action=DescribeSecurityGroups&Filter.1.Name=ip-permission.to-port&Filter.1.Value.1=22")
        .await;
    assert_eq!(all(&shown, "groupName"), ["web"]);
    assert!(
        shown.contains("<ipPermissionsEgress><item><ipProtocol>-1</ipProtocol>"),
        "{shown}"
    );
    let rules = world
        .ask(&format!(
            "Action=DescribeSecurityGroupRules&Filter.1.Name=group-id&Filter.1.Value.1={group}"
        ))
        .await;
    assert_eq!(all(&rules, "isEgress").len(), 2);
    let gone = world
        .ask(&format!(
            "Action=RevokeSecurityGroupIngress&GroupId={group}&SecurityGroupRuleId.1={rule_id}"
        ))
        .await;
    assert_eq!(one(&gone, "securityGroupRuleId"), rule_id);
    let unknown = world
        .ask(&format!("Action=RevokeSecurityGroupIngress&{rule}"))
        .await;
    assert_eq!(one(&unknown, "cidrIp"), "10.1.2.3/8");
    // From a group to itself, and by the flat parameters of old clients.
    world
        .ask(&format!(
            "Action=AuthorizeSecurityGroupIngress&GroupName=web&IpPermissions.1.IpProtocol=-1&\
             IpPermissions.1.Groups.1.GroupId={group}"
        ))
        .await;
    world
        .ask("Action=AuthorizeSecurityGroupIngress&GroupName=web&IpProtocol=udp&FromPort=53&ToPort=53&CidrIp=0.0.0.0/0")
        .await;
    let id = world
        .run(1, &format!("&SecurityGroupId.1={group}"))
        .await
        .remove(0);
    assert_eq!(
        world
            .refused(&format!("Action=DeleteSecurityGroup&GroupId={group}"))
            .await,
        "DependencyViolation"
    );
    world
        .ask(&format!("Action=TerminateInstances&InstanceId.1={id}"))
        .await;
    let default = world
        .ask("Action=DescribeSecurityGroups&GroupName.1=default")
        .await;
    assert_eq!(
        world
            .refused(&format!(
                "Action=DeleteSecurityGroup&GroupId={}",
                one(&default, "groupId")
            ))
            .await,
        "CannotDelete"
    );
}

#[tokio::test]
async fn images() {
    let world = World::new().await;
    for (rest, found) in [
        ("", true),
        ("&Owner.1=self", true),
        (&*format!("&Owner.1={}", world.who.account), true),
        ("&Owner.1=amazon", false),
        ("&ExecutableBy.1=self", false),
        ("&ExecutableBy.1=all", false),
        ("&Filter.1.Name=name&Filter.1.Value.1=ti*", true),
        ("&Filter.1.Name=architecture&Filter.1.Value.1=arm64", false),
    ] {
        let xml = world.ask(&format!("Action=DescribeImages{rest}")).await;
        assert_eq!(xml.contains(&world.image), found, "{rest}");
    }
}

/// As EC2 has it: who waits for its end asks until nothing is shown, and is told much later that there is no such image.
#[tokio::test]
async fn a_deregistered_image_is_listed_as_nothing_and_is_unavailable_to_the_rest() {
    let world = World::new().await;
    let copy = "Action=CopyImage&Name=copy&SourceImageId={image}&SourceRegion=us-east-1";
    let copy = one(&world.ask(copy).await, "imageId");
    world.ask("Action=DeregisterImage&ImageId={image}").await;
    let listing = "Action=DescribeImages&ImageId.1={image}";
    let listed = all(&world.ask(listing).await, "imageId");
    assert_eq!(listed, Vec::<String>::new());
    let both = world.ask(&format!("{listing}&ImageId.2={copy}")).await;
    assert_eq!(all(&both, "imageId"), [&*copy]);
    let unknown = format!("{listing}&ImageId.2=ami-0123456789abcdef0");
    let refusal = world.try_as(&world.who, &unknown).await.unwrap_err();
    assert_eq!(&*refusal.code, "InvalidAMIID.NotFound");
    assert_eq!(
        refusal.message,
        "The image id '[ami-0123456789abcdef0]' does not exist"
    );
    for call in [
        "DeregisterImage&ImageId={image}",
        "DescribeImageAttribute&ImageId={image}&Attribute=description",
        "DescribeImageAttribute&ImageId={image}&Attribute=launchPermission",
        "ModifyImageAttribute&ImageId={image}&Description.Value=words",
        "ModifyImageAttribute&ImageId={image}&ImdsSupport.Value=v2.0",
        "ModifyImageAttribute&ImageId={image}&LaunchPermission.Add.1.UserId=999999999999",
        "ResetImageAttribute&ImageId={image}&Attribute=launchPermission",
        "EnableImageDeprecation&ImageId={image}&DeprecateAt=2027-01-01T00:00:00Z",
        "DisableImageDeprecation&ImageId={image}",
        "DisableImage&ImageId={image}",
        "EnableImage&ImageId={image}",
        "EnableImageDeregistrationProtection&ImageId={image}",
        "DisableImageDeregistrationProtection&ImageId={image}",
        "CopyImage&Name=again&SourceImageId={image}&SourceRegion=us-east-1",
        "RunInstances&ImageId={image}&MinCount=1&MaxCount=1",
    ] {
        let call = format!("Action={call}");
        assert_eq!(world.refused(&call).await, "InvalidAMIID.Unavailable", "{call}");
        // Who never saw it learns nothing.
        let refusal = world.try_as(&world.stranger(), &call).await.unwrap_err();
        assert_eq!(&*refusal.code, "InvalidAMIID.NotFound", "{call}");
    }
    let refusal = world.try_as(&world.stranger(), listing).await.unwrap_err();
    assert_eq!(&*refusal.code, "InvalidAMIID.NotFound");
    // Its row goes in the end.
    let end = format!("Action=DeregisterImage&ImageId={copy}");
    world.ask(&end).await;
    let listing = format!("Action=DescribeImages&ImageId.1={copy}");
    assert_eq!(all(&world.ask(&listing).await, "imageId"), Vec::<String>::new());
    let now = world.cloud.now();
    let forget = world.cloud.store.write(move |txn| {
        Box::pin(async move { cumulet_backend::store::images::forget(txn, now, 10).await })
    });
    assert_eq!(forget.await.unwrap(), 1);
    for call in [&end, &listing] {
        assert_eq!(world.refused(call).await, "InvalidAMIID.NotFound", "{call}");
    }
}

#[tokio::test]
async fn tags_keep_their_text() {
    let world = World::new().await;
    let id = world.run(1, "").await.remove(0);
    world
        .ask(&format!(
            "Action=CreateTags&ResourceId.1={id}&ResourceId.2={{image}}&Tag.1.Key=a&Tag.1.Value=True&\
             Tag.2.Key=b&Tag.2.Value=0123&Tag.3.Key=empty&Tag.3.Value=&Tag.4.Key=x&Tag.4.Value=%3C%26%22%3E"
        ))
        .await;
    let xml = world
        .ask(&format!("Action=DescribeTags&Filter.1.Name=resource-id&Filter.1.Value.1={id}&Filter.2.Name=key&Filter.2.Value.1=*"))
        .await;
    assert_eq!(all(&xml, "value"), ["True", "0123", "", "&lt;&amp;&quot;&gt;"]);
    // Terraform asks this on every read, and needs an empty list.
    let none = world
        .ask(&format!(
            "Action=DescribeTags&Filter.1.Name=resource-id&Filter.1.Value.1={id}&Filter.2.Name=key&\
             Filter.2.Value.1=aws:ec2launchtemplate:id"
        ))
        .await;
    assert!(none.contains("<tagSet/>"), "{none}");
    world
        .ask(&format!(
            "Action=DeleteTags&ResourceId.1={id}&Tag.1.Key=a&Tag.1.Value=false&Tag.2.Key=b"
        ))
        .await;
    let left = world
        .ask(&format!(
            "Action=DescribeTags&Filter.1.Name=resource-id&Filter.1.Value.1={id}"
        ))
        .await;
    assert_eq!(all(&left, "key"), ["a", "empty", "x"]);
    for (rest, code) in [
        ("Tag.1.Key=aws:x&Tag.1.Value=1", "InvalidParameterValue"),
        ("Tag.1.Key=c&Tag.1.Value=%07", "InvalidParameterValue"),
        ("Tag.1.Value=1", "MissingParameter"),
        ("Tag.1.Key=c&Tag.2.Key=c", "InvalidParameterValue"),
    ] {
        assert_eq!(
            world
                .refused(&format!("Action=CreateTags&ResourceId.1={id}&{rest}"))
                .await,
            code,
            "{rest}"
        );
    }
}

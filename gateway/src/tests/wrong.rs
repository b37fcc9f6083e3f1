//! Wrong requests: each is refused with its code and a 4xx, and changes nothing.

use super::*;

#[tokio::test]
async fn each_is_refused_with_its_code() {
    let world = World::new().await;
    let id = world.run(1, "").await.remove(0);
    let before = world.ask("Action=DescribeInstances").await;
    let run = "Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1";
    let large = "a".repeat(30_000);
    let many: String = (0..201).map(|n| format!("&Filter.1.Value.{n}={n}")).collect();
    for (body, code) in [
        ("".to_owned(), "MissingAction"),
        ("Action=".into(), "MissingAction"),
        ("Action=MakeCoffee".into(), "InvalidAction"),
        ("Action=describeregions".into(), "InvalidAction"),
        ("Action=ImportSnapshot".into(), "UnsupportedOperation"),
        ("Action=DescribeAddressesAttribute".into(), "InvalidAction"),
        (
            "Action=DescribeRegions&Version=2020-01-01".into(),
            "InvalidParameterValue",
        ),
        ("Action=DescribeRegions&Nonsense=1".into(), "UnknownParameter"),
        (
            "Action=DescribeRegions&Action=DescribeRegions".into(),
            "InvalidQueryParameter",
        ),
        ("Action=DescribeRegions&X=%ff".into(), "MalformedQueryString"),
        (
            "Action=DescribeInstances&InstanceId.999999999=i-1".into(),
            "InvalidParameterValue",
        ),
        (
            "Action=DescribeInstances&InstanceId.1=nonsense".into(),
            "InvalidInstanceID.Malformed",
        ),
        (
            "Action=DescribeInstances&InstanceId.1=i-0123456789abcdef0".into(),
            "InvalidInstanceID.NotFound",
        ),
        (
            "Action=DescribeInstances&InstanceId.1=i-1a2b3c4d".into(),
            "InvalidInstanceID.NotFound",
        ),
        (
            format!("Action=TerminateInstances&InstanceId.1={id}&InstanceId.2=i-0123456789abcdef0"),
            "InvalidInstanceID.NotFound",
        ),
        ("Action=TerminateInstances".into(), "InvalidParameterCombination"),
        (
            "Action=DescribeInstances&Filter.1.Name=nonsense&Filter.1.Value.1=x".into(),
            "InvalidParameterValue",
        ),
        (
            "Action=DescribeInstances&Filter.1.Value.1=x".into(),
            "InvalidParameterValue",
        ),
        (
            format!("Action=DescribeInstances&Filter.1.Name=image-id{many}"),
            "FilterLimitExceeded",
        ),
        (
            "Action=DescribeInstanceAttribute&InstanceId=i-0123456789abcdef0&Attribute=x".into(),
            "InvalidParameterValue",
        ),
        (
            "Action=RunInstances&MinCount=1&MaxCount=1".into(),
            "MissingParameter",
        ),
        ("Action=RunInstances&ImageId={image}".into(), "MissingParameter"),
        (
            "Action=RunInstances&ImageId={image}&MinCount=x&MaxCount=1".into(),
            "InvalidParameterValue",
        ),
        (
            "Action=RunInstances&ImageId={image}&MinCount=0&MaxCount=1".into(),
            "InvalidParameterValue",
        ),
        (
            "Action=RunInstances&ImageId={image}&MinCount=2&MaxCount=1".into(),
            "InvalidParameterValue",
        ),
        (
            "Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=99999999".into(),
            "InvalidParameterValue",
        ),
        (
            "Action=RunInstances&ImageId=nonsense&MinCount=1&MaxCount=1".into(),
            "InvalidAMIID.Malformed",
        ),
        (
            format!("{run}&SubnetId=subnet-0123456789abcdef0"),
            "InvalidSubnetID.NotFound",
        ),
        (
            format!("{run}&SecurityGroupId.1=sg-0123456789abcdef0"),
            "InvalidGroup.NotFound",
        ),
        (format!("{run}&UserData={large}"), "InvalidParameterValue"),
        (format!("{run}&UserData=not-base64!"), "InvalidUserData.Malformed"),
        (format!("{run}&EbsOptimized=true"), "UnsupportedOperation"),
        (
            format!("{run}&EbsOptimized=false&MinCount=1"),
            "InvalidQueryParameter",
        ),
        (
            "Action=DescribeVpcs&VpcId.1=vpc-0123456789abcdef0".into(),
            "InvalidVpcID.NotFound",
        ),
        (
            "Action=DescribeSubnets&SubnetId.1=subnet-x".into(),
            "InvalidSubnetID.Malformed",
        ),
        (
            "Action=DescribeSecurityGroups&GroupId.1=sg-0123456789abcdef0".into(),
            "InvalidGroup.NotFound",
        ),
        (
            "Action=DescribeSecurityGroups&GroupId.1=x".into(),
            "InvalidGroupId.Malformed",
        ),
        (
            "Action=AuthorizeSecurityGroupIngress&GroupName=default".into(),
            "MissingParameter",
        ),
        (
            "Action=CreateTags&ResourceId.1=nonsense&Tag.1.Key=a".into(),
            "InvalidID",
        ),
        (
            "Action=CreateTags&ResourceId.1=vol-0123456789abcdef0&Tag.1.Key=a".into(),
            "InvalidVolume.NotFound",
        ),
        (
            "Action=GetConsoleOutput&InstanceId=i-0123456789abcdef0".into(),
            "InvalidInstanceID.NotFound",
        ),
    ] {
        let refusal = world.try_as(&world.who, &body).await.err();
        let refusal = refusal.unwrap_or_else(|| panic!("{body} was accepted"));
        assert_eq!(refusal.code, code, "{body}: {}", refusal.message);
        let expected = if code == "UnauthorizedOperation" { 403 } else { 400 };
        assert_eq!(refusal.status, expected, "{body}");
    }
    assert_eq!(world.ask("Action=DescribeInstances").await, before);
}

#[tokio::test]
async fn lists_have_nothing_of_others() {
    let world = World::new().await;
    world.run(1, "").await;
    let xml = world
        .try_as(&world.stranger(), "Action=DescribeInstances")
        .await
        .unwrap();
    assert!(xml.contains("<reservationSet/>"));
}

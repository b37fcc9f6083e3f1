//! Pages meet, and tokens are good for one question of one account.

use super::*;

#[tokio::test]
async fn pages_of_reservations_meet() {
    let world = World::new().await;
    for _ in 0..12 {
        world.run(1, "").await;
    }
    let everything = all(&world.ask("Action=DescribeInstances").await, "instanceId");
    for filter in ["", "&Filter.1.Name=instance-type&Filter.1.Value.1=t3.*"] {
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let xml = world
                .ask(&format!("Action=DescribeInstances&MaxResults=5{filter}{token}"))
                .await;
            seen.extend(all(&xml, "instanceId"));
            pages += 1;
            match all(&xml, "nextToken").first() {
                Some(next) => token = format!("&NextToken={next}"),
                None => break,
            }
        }
        assert_eq!((&seen, pages), (&everything, 3), "{filter}");
    }
    // A filter that passes few still fills its pages.
    let third = format!(
        "Action=DescribeInstances&MaxResults=5&Filter.1.Name=instance-id&Filter.1.Value.1={}",
        everything[8]
    );
    assert_eq!(all(&world.ask(&third).await, "instanceId"), everything[8..9]);
}

/// EC2 promises no order; this one is what people expect of a list.
#[tokio::test]
async fn instances_are_listed_in_the_order_of_their_launches() {
    let world = World::new().await;
    let mut launched = Vec::new();
    for count in [1, 3, 1, 2, 1, 1, 1] {
        launched.extend(world.run(count, "").await);
        world.advance(1);
    }
    let listed = async |rest: &str| {
        let xml = world.ask(&format!("Action=DescribeInstances{rest}")).await;
        (all(&xml, "instanceId"), all(&xml, "nextToken").pop())
    };
    assert_eq!(listed("").await.0, launched);
    let filter = "&Filter.1.Name=instance-type&Filter.1.Value.1=t3.*";
    assert_eq!(listed(filter).await.0, launched);
    let (mut seen, token) = listed("&MaxResults=5").await;
    assert_eq!(seen.len(), 8);
    let (rest, end) = listed(&format!("&MaxResults=5&NextToken={}", token.unwrap())).await;
    seen.extend(rest);
    assert_eq!((seen, end), (launched, None));
}

#[tokio::test]
async fn tokens_are_bound_and_limits_checked() {
    let world = World::new().await;
    for _ in 0..6 {
        world.run(1, "").await;
    }
    let token = one(
        &world.ask("Action=DescribeInstances&MaxResults=5").await,
        "nextToken",
    );
    let changed = format!(
        "{}{}",
        &token[..token.len() - 1],
        if token.ends_with('A') { 'B' } else { 'A' }
    );
    for bad in [
        format!("Action=DescribeInstances&NextToken={changed}"),
        "Action=DescribeInstances&NextToken=nonsense".into(),
        format!("Action=DescribeInstances&NextToken={}", "x".repeat(5000)),
        format!("Action=DescribeInstanceStatus&NextToken={token}"),
        format!("Action=DescribeInstances&NextToken={token}&Filter.1.Name=image-id&Filter.1.Value.1=*"),
    ] {
        assert_eq!(world.refused(&bad).await, "InvalidNextToken", "{bad}");
    }
    let stolen = format!("Action=DescribeInstances&NextToken={token}");
    let refusal = world.try_as(&world.stranger(), &stolen).await.unwrap_err();
    assert_eq!(refusal.code, "InvalidNextToken");
    // Another page size is no other question.
    assert_eq!(
        all(
            &world.ask(&format!("{stolen}&MaxResults=1000")).await,
            "instanceId"
        )
        .len(),
        1
    );
    for (rest, code) in [
        ("MaxResults=4", "InvalidParameterValue"),
        ("MaxResults=1001", "InvalidParameterValue"),
        ("MaxResults=-1", "InvalidParameterValue"),
        (
            "MaxResults=5&InstanceId.1=i-0123456789abcdef0",
            "InvalidParameterCombination",
        ),
    ] {
        assert_eq!(
            world.refused(&format!("Action=DescribeInstances&{rest}")).await,
            code,
            "{rest}"
        );
    }
}

/// As EC2 has it: Kubernetes' driver for EBS volumes says 0 where it wants all of the snapshots.
#[tokio::test]
async fn no_results_at_most_are_all_of_the_snapshots() {
    let world = World::new().await;
    let volume = world
        .ask("Action=CreateVolume&AvailabilityZone=us-east-1a&Size=1")
        .await;
    let volume = one(&volume, "volumeId");
    world
        .ask(&format!("Action=CreateSnapshot&VolumeId={volume}"))
        .await;
    let listed =
        format!("Action=DescribeSnapshots&Filter.1.Name=volume-id&Filter.1.Value.1={volume}&MaxResults");
    assert_eq!(
        all(&world.ask(&format!("{listed}=0")).await, "snapshotId").len(),
        1
    );
    // Nor do they name snapshots who say whose are wanted.
    for whose in ["Owner.1=self", "RestorableBy.1=self"] {
        let of = format!("Action=DescribeSnapshots&MaxResults=5&{whose}");
        assert_eq!(all(&world.ask(&of).await, "snapshotId").len(), 1, "{whose}");
    }
    for other in [&format!("{listed}=-1"), "Action=DescribeVolumes&MaxResults=0"] {
        assert_eq!(world.refused(other).await, "InvalidParameterValue", "{other}");
    }
}

#[tokio::test]
async fn a_list_without_filters_has_no_token_on_its_last_page() {
    let world = World::new().await;
    let xml = world.ask("Action=DescribeInstanceTypes&MaxResults=5").await;
    assert_eq!(all(&xml, "currentGeneration").len(), 5);
    let token = one(&xml, "nextToken");
    let rest = world
        .ask(&format!(
            "Action=DescribeInstanceTypes&MaxResults=100&NextToken={token}"
        ))
        .await;
    assert!(!rest.contains("nextToken"), "{rest}");
    let whole = world.ask("Action=DescribeInstanceTypes").await;
    assert_eq!(
        all(&xml, "currentGeneration").len() + all(&rest, "currentGeneration").len(),
        all(&whole, "currentGeneration").len()
    );
}

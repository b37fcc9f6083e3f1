//! DryRun checks everything and changes nothing; the audit log tells of what was not dry.

use cumulet_backend::api::audit_log;

use super::*;

/// Everything that an account can see.
async fn picture(world: &World) -> String {
    let mut all = String::new();
    for action in [
        "DescribeInstances",
        "DescribeKeyPairs",
        "DescribePlacementGroups",
        "DescribeSecurityGroups",
        "DescribeSecurityGroupRules",
        "DescribeImages",
        "DescribeTags",
        "DescribeNetworkInterfaces",
        "DescribeVpcs",
        "DescribeSubnets",
    ] {
        all += &world.ask(&format!("Action={action}")).await;
    }
    all
}

#[tokio::test]
async fn no_call_changes_anything_when_it_is_dry() {
    let world = World::new().await;
    let id = world
        .run(
            1,
            "&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a",
        )
        .await
        .remove(0);
    let group = one(
        &world
            .ask("Action=CreateSecurityGroup&GroupName=web&GroupDescription=x")
            .await,
        "groupId",
    );
    world.ask("Action=CreateKeyPair&KeyName=k&KeyType=ed25519").await;
    let rule = format!("GroupId={group}&IpPermissions.1.IpProtocol=-1&IpPermissions.1.IpRanges.1.CidrIp=");
    world
        .ask(&format!("Action=AuthorizeSecurityGroupIngress&{rule}10.0.0.0/8"))
        .await;
    world
        .ask("Action=CreatePlacementGroup&GroupName=p&Strategy=spread")
        .await;
    let before = picture(&world).await;
    let entries = audit_log::list(&world.cloud.parts(), world.who.account, 1000)
        .await
        .unwrap()
        .len();
    let calls = [
        "RunInstances&ImageId={image}&MinCount=1&MaxCount=3&InstanceType=t3.nano&ClientToken=t".to_owned(),
        format!("TerminateInstances&InstanceId.1={id}"),
        format!("StartInstances&InstanceId.1={id}"),
        format!("ModifyInstanceAttribute&InstanceId={id}&DisableApiStop.Value=true"),
        format!("ModifyInstanceMetadataOptions&InstanceId={id}&HttpTokens=required"),
        "CreateKeyPair&KeyName=new&KeyType=ed25519".into(),
        "DeleteKeyPair&KeyName=k".into(),
        "CreatePlacementGroup&GroupName=new&Strategy=partition&PartitionCount=3".into(),
        "DeletePlacementGroup&GroupName=p".into(),
        "CreateSecurityGroup&GroupName=new&GroupDescription=x".into(),
        format!("DeleteSecurityGroup&GroupId={group}"),
        format!("AuthorizeSecurityGroupIngress&{rule}11.0.0.0/8"),
        format!("AuthorizeSecurityGroupEgress&{rule}11.0.0.0/8"),
        format!("RevokeSecurityGroupIngress&{rule}10.0.0.0/8"),
        format!("RevokeSecurityGroupEgress&{rule}0.0.0.0/0"),
        "DeregisterImage&ImageId={image}".into(),
        format!("CreateTags&ResourceId.1={id}&Tag.1.Key=b&Tag.1.Value=1"),
        format!("DeleteTags&ResourceId.1={id}&Tag.1.Key=a"),
        "DescribeInstances".into(),
        "DescribeRegions".into(),
    ];
    for call in &calls {
        let refusal = world
            .try_as(&world.who, &format!("Action={call}&DryRun=true"))
            .await
            .unwrap_err();
        assert_eq!(
            (&*refusal.code, refusal.status),
            ("DryRunOperation", 412),
            "{call}: {refusal:?}"
        );
        assert!(refusal.message.contains("DryRun flag is set"));
    }
    assert_eq!(picture(&world).await, before);
    assert_eq!(
        audit_log::list(&world.cloud.parts(), world.who.account, 1000)
            .await
            .unwrap()
            .len(),
        entries
    );
    // Each is accepted for real afterwards: no token, name or rule was used up. Those that end something
    // the others need are left out.
    let ends = |call: &String| {
        ["Terminate", "Deregister", "DeleteSecurity"]
            .iter()
            .any(|w| call.starts_with(w))
    };
    for call in calls.iter().filter(|call| !ends(call)) {
        world.ask(&format!("Action={call}")).await;
    }
}

#[tokio::test]
async fn a_dry_call_fails_as_the_real_one_would() {
    let world = World::new().await;
    for (call, code) in [
        (
            "TerminateInstances&InstanceId.1=i-0123456789abcdef0",
            "InvalidInstanceID.NotFound",
        ),
        (
            "RunInstances&ImageId=ami-0123456789abcdef0&MinCount=1&MaxCount=1",
            "InvalidAMIID.NotFound",
        ),
        (
            "RunInstances&ImageId={image}&MinCount=1&MaxCount=1&InstanceType=x9.huge",
            "InvalidParameterValue",
        ),
        (
            "RunInstances&ImageId={image}&MinCount=1&MaxCount=1&KeyName=nobody",
            "InvalidKeyPair.NotFound",
        ),
    ] {
        assert_eq!(
            world.refused(&format!("Action={call}&DryRun=true")).await,
            code,
            "{call}"
        );
    }
    let call = "Action=CreateSecurityGroup&GroupName=x&GroupDescription=x&DryRun=true";
    let refusal = world.try_as(&world.reader(), call).await.unwrap_err();
    assert_eq!((&*refusal.code, refusal.status), ("UnauthorizedOperation", 403));
}

#[tokio::test]
async fn changes_are_audited_whether_accepted_or_not() {
    let world = World::new().await;
    let id = world.run(1, "").await.remove(0);
    world.advance(1);
    world
        .refused("Action=TerminateInstances&InstanceId.1=i-0123456789abcdef0")
        .await;
    world.advance(1);
    let call = format!("Action=TerminateInstances&InstanceId.1={id}");
    world.try_as(&world.reader(), &call).await.unwrap_err();
    let log = audit_log::list(&world.cloud.parts(), world.who.account, 10)
        .await
        .unwrap();
    let mut told: Vec<(String, String, bool)> = log
        .iter()
        .map(|row| {
            (
                row.action.clone(),
                row.outcome.clone(),
                row.resource.as_deref().is_some_and(|r| r.contains(&id)),
            )
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            ("ec2:RunInstances".into(), "ok".into(), true),
            (
                "ec2:TerminateInstances".into(),
                "InvalidInstanceID.NotFound".into(),
                false
            ),
            (
                "ec2:TerminateInstances".into(),
                "UnauthorizedOperation".into(),
                true
            ),
        ]
    );
}

#[tokio::test]
async fn the_audit_log_names_what_was_made_and_nothing_that_was_not() {
    let world = World::new().await;
    let create = "Action=CreateSecurityGroup&GroupName=g&GroupDescription=d";
    let made = world.ask(create).await;
    world.advance(1);
    world.refused(create).await;
    world.advance(1);
    world.refused("Action=CreateKeyPair&KeyName=%20k").await;
    let log = audit_log::list(&world.cloud.parts(), world.who.account, 10)
        .await
        .unwrap();
    let told: Vec<_> = log
        .iter()
        .rev()
        .map(|row| (&*row.outcome, row.resource.as_deref()))
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    let (ok, group) = told[0];
    assert!(
        ok == "ok" && group.is_some_and(|id| id.starts_with("sg-") && made.contains(id)),
        "{told:?}"
    );
    assert_eq!(told[1], ("InvalidGroup.Duplicate", None));
    assert_eq!(told[2], ("InvalidParameterValue", None));
}

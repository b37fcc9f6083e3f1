//! DryRun checks everything; the audit log tells of what was not dry. That it changes nothing is in `examples`.

use cumulet_backend::api::audit_log;

use super::*;

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

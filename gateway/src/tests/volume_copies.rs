//! Copies of volumes as clients see them, and what they are made of, which nobody sees.

use cumulet_backend::{
    api::audit_log,
    entity::snapshot,
    store::{snapshots, volume_copies},
};

use super::*;

const VOLUME: &str = "Action=CreateVolume&AvailabilityZone=us-east-1a&Size=4";

impl World {
    /// What copies wait for.
    async fn hidden(&self) -> Vec<snapshot::Model> {
        snapshot::Entity::find()
            .all(self.cloud.store.read())
            .await
            .unwrap()
    }

    /// The snapshots of copies have been taken, or could not be.
    async fn end(&self, failure: Option<&'static str>) {
        let ids: Vec<i64> = self.hidden().await.iter().map(|row| row.id.to_db()).collect();
        let now = self.cloud.now();
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                snapshots::close(txn, &ids, failure, now).await?;
                volume_copies::settle(txn, &ids, failure).await
            })
        });
        write.await.unwrap();
    }

    async fn shown(&self, id: &str) -> String {
        self.ask(&format!("Action=DescribeVolumes&VolumeId.1={id}")).await
    }
}

#[tokio::test]
async fn a_copy_is_created_and_then_available_and_says_what_it_is_of() {
    let world = World::new().await;
    let source = one(&world.ask(VOLUME).await, "volumeId");
    let body = format!(
        "Action=CopyVolumes&SourceVolumeId={source}&Size=6&VolumeType=gp3&ClientToken=t&MultiAttachEnabled=false&\
         TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=a"
    );
    let made = world.ask(&body).await;
    let copy = one(&made, "volumeId");
    for (name, value) in [
        ("sourceVolumeId", source.as_str()),
        ("status", "creating"),
        ("size", "6"),
        ("volumeType", "gp3"),
        ("availabilityZone", "us-east-1a"),
        ("key", "a"),
    ] {
        assert_eq!(one(&made, name), value, "{name}: {made}");
    }
    assert!(
        made.contains("<volumeSet><item>") && one(&made, "snapshotId").is_empty(),
        "{made}"
    );
    let again = world.ask(&body).await;
    assert_eq!(one(&again, "volumeId"), copy);
    // Its source is no copy.
    assert!(!world.shown(&source).await.contains("sourceVolumeId"));

    let instance = world.run(1, "").await.remove(0);
    world.settle(&instance, "stopped").await;
    let attach = format!("Action=AttachVolume&VolumeId={copy}&InstanceId={instance}&Device=/dev/sdf");
    let refused = world.try_as(&world.who, &attach).await.unwrap_err();
    assert_eq!(refused.code, "IncorrectState");
    assert!(refused.message.contains(&copy), "{}", refused.message);

    world.end(None).await;
    assert_eq!(one(&world.shown(&copy).await, "status"), "available");
    world.ask(&attach).await;
}

#[tokio::test]
async fn what_a_copy_is_made_of_is_in_no_listing_and_no_log() {
    let world = World::new().await;
    let source = one(&world.ask(VOLUME).await, "volumeId");
    let made = world
        .ask(&format!("Action=CopyVolumes&SourceVolumeId={source}"))
        .await;
    let copy = one(&made, "volumeId");
    let hidden = world.hidden().await[0].id.0.to_string();
    // (Before anybody asks for it by its id.)
    let log = audit_log::list(&world.cloud.parts(), world.who.account, 1000).await;
    let log = format!("{:?}", log.unwrap());
    assert!(
        log.contains("CopyVolumes") && log.contains(&copy) && log.contains(&source),
        "{log}"
    );
    assert!(!log.contains(&hidden), "{log}");
    for failure in [None, Some("the data is rotten")] {
        for action in [
            "DescribeSnapshots",
            "DescribeVolumes",
            "DescribeTags",
            "DescribeVolumeStatus",
        ] {
            let shown = world.ask(&format!("Action={action}")).await;
            assert!(!shown.contains(&hidden), "{shown}");
        }
        let by_it = format!("Action=DescribeVolumes&Filter.1.Name=snapshot-id&Filter.1.Value.1={hidden}");
        assert!(!world.ask(&by_it).await.contains("<item>"));
        for body in [
            format!("{VOLUME}&SnapshotId={hidden}"),
            format!("Action=DeleteSnapshot&SnapshotId={hidden}"),
            format!("Action=CopySnapshot&SourceRegion=us-east-1&SourceSnapshotId={hidden}"),
            format!("Action=DescribeSnapshots&SnapshotId.1={hidden}"),
            format!("Action=CreateTags&ResourceId.1={hidden}&Tag.1.Key=a"),
        ] {
            assert_eq!(world.refused(&body).await, "InvalidSnapshot.NotFound", "{body}");
        }
        world.end(failure).await;
    }
    assert_eq!(one(&world.shown(&copy).await, "status"), "available");
}

#[tokio::test]
async fn a_copy_that_could_not_be_made_is_in_error_until_it_is_deleted() {
    let world = World::new().await;
    let source = one(&world.ask(VOLUME).await, "volumeId");
    let made = world
        .ask(&format!("Action=CopyVolumes&SourceVolumeId={source}"))
        .await;
    let copy = one(&made, "volumeId");
    world.end(Some("the data is rotten")).await;
    assert_eq!(one(&world.shown(&copy).await, "status"), "error");
    let by_state = "Action=DescribeVolumes&Filter.1.Name=status&Filter.1.Value.1=error";
    assert_eq!(one(&world.ask(by_state).await, "volumeId"), copy);
    world.ask(&format!("Action=DeleteVolume&VolumeId={copy}")).await;
    assert_eq!(
        world
            .refused(&format!("Action=DescribeVolumes&VolumeId.1={copy}"))
            .await,
        "InvalidVolume.NotFound"
    );
}

#[tokio::test]
async fn encryption_is_the_sources_or_what_is_asked_for() {
    let world = World::new().await;
    let plain = one(&world.ask(VOLUME).await, "volumeId");
    let sealed = one(&world.ask(&format!("{VOLUME}&Encrypted=true")).await, "volumeId");
    for (source, rest, encrypted) in [
        (&plain, "", "false"),
        (&plain, "&Encrypted=false", "false"),
        (&plain, "&Encrypted=true&KmsKeyId=alias/aws/ebs", "true"),
        (&sealed, "", "true"),
        (&sealed, "&Encrypted=false", "true"),
        (&sealed, "&Encrypted=true", "true"),
    ] {
        let made = world
            .ask(&format!("Action=CopyVolumes&SourceVolumeId={source}{rest}"))
            .await;
        assert_eq!(one(&made, "encrypted"), encrypted, "{rest}: {made}");
        assert_eq!(made.contains("<kmsKeyId>"), encrypted == "true", "{made}");
    }
    for (rest, code) in [
        ("&Size=3", "InvalidParameterValue"),
        ("&Size=-1", "InvalidParameterValue"),
        ("&VolumeType=tape", "InvalidParameterValue"),
        ("&Iops=3000", "InvalidParameterCombination"),
        ("&KmsKeyId=alias/aws/ebs", "InvalidParameterDependency"),
        ("&Encrypted=true&KmsKeyId=alias/other", "InvalidParameterValue"),
        ("&MultiAttachEnabled=true", "UnsupportedOperation"),
    ] {
        let body = format!("Action=CopyVolumes&SourceVolumeId={plain}{rest}");
        assert_eq!(world.refused(&body).await, code, "{body}");
    }
    let body = "Action=CopyVolumes&SourceVolumeId=vol-0123456789abcdef0";
    assert_eq!(world.refused(body).await, "InvalidVolume.NotFound");
}

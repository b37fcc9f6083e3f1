//! Volumes as clients see them: statuses, attributes, and the codes and texts that stock clients look for.

use super::*;

async fn volume(world: &World, rest: &str) -> String {
    let made = world
        .ask(&format!(
            "Action=CreateVolume&AvailabilityZone=us-east-1a&Size=4{rest}"
        ))
        .await;
    one(&made, "volumeId")
}

#[tokio::test]
async fn a_volume_is_well_as_long_as_its_host_is_heard_of() {
    let world = World::new().await;
    let instance = world.run(1, "").await.remove(0);
    let (free, far) = (volume(&world, "").await, volume(&world, "").await);
    let id: cumulet_domain::id::VolumeId = far.parse().unwrap();
    let write = world.cloud.store.write(move |txn| {
        Box::pin(async move {
            use cumulet_backend::entity::volume;
            let there = volume::Entity::update_many()
                .col_expr(volume::Column::Host, Expr::value("host-1"))
                .filter(volume::Column::Id.eq(id.to_db()));
            there.exec(txn).await.map_err(failed)?;
            let placed =
                instance::Entity::update_many().col_expr(instance::Column::Host, Expr::value("host-1"));
            placed.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
    let root = one(
        &world
            .ask(&format!(
                "Action=DescribeVolumes&Filter.1.Name=attachment.instance-id&Filter.1.Value.1={instance}"
            ))
            .await,
        "volumeId",
    );
    let status = async |id: &str| {
        let xml = world
            .ask(&format!("Action=DescribeVolumeStatus&VolumeId.1={id}"))
            .await;
        (all(&xml, "status"), all(&xml, "name"), all(&xml, "instanceId"))
    };
    let details = vec!["io-enabled".to_owned(), "io-performance".to_owned()];
    let words = |words: [&str; 3]| words.map(str::to_owned).to_vec();
    // (The summary comes after its details in the model's order.)
    let well = words(["passed", "not-applicable", "ok"]);
    assert_eq!(status(&far).await, (well.clone(), details.clone(), vec![]));
    assert_eq!(
        status(&root).await,
        (well.clone(), details.clone(), vec![instance.clone()])
    );
    world.advance(31);
    let lost = words(["insufficient-data", "not-applicable", "insufficient-data"]);
    assert_eq!(status(&far).await, (lost.clone(), details.clone(), vec![]));
    assert_eq!(
        status(&root).await,
        (lost, details.clone(), vec![instance.clone()])
    );
    // Nothing can be the matter with what nobody has made yet.
    assert_eq!(status(&free).await, (well, details, vec![]));
    let of_instance = format!(
        "Action=DescribeVolumeStatus&Filter.1.Name=attachment-status.instance-id&Filter.1.Value.1={instance}"
    );
    assert_eq!(all(&world.ask(&of_instance).await, "volumeId"), [root]);
    // Those that are gone are not listed.
    world.ask(&format!("Action=DeleteVolume&VolumeId={free}")).await;
    assert!(!world.ask("Action=DescribeVolumeStatus").await.contains(&free));
}

#[tokio::test]
async fn attributes_are_what_was_said_of_them() {
    let world = World::new().await;
    let id = volume(&world, "").await;
    let ask = async |name: &str| {
        world
            .ask(&format!(
                "Action=DescribeVolumeAttribute&VolumeId={id}&Attribute={name}"
            ))
            .await
    };
    let xml = ask("autoEnableIO").await;
    assert!(
        xml.contains("<autoEnableIO><value>false</value></autoEnableIO>"),
        "{xml}"
    );
    assert!(
        !xml.contains("productCodes") && one(&xml, "volumeId") == id,
        "{xml}"
    );
    for value in ["true", "false", "true"] {
        world
            .ask(&format!(
                "Action=ModifyVolumeAttribute&VolumeId={id}&AutoEnableIO.Value={value}"
            ))
            .await;
        assert_eq!(one(&ask("autoEnableIO").await, "value"), value);
    }
    let xml = ask("productCodes").await;
    assert!(
        xml.contains("<productCodes/>") && !xml.contains("autoEnableIO"),
        "{xml}"
    );
    for (body, code) in [
        (
            format!("Action=DescribeVolumeAttribute&VolumeId={id}&Attribute=size"),
            "InvalidParameterValue",
        ),
        (
            format!("Action=ModifyVolumeAttribute&VolumeId={id}"),
            "MissingParameter",
        ),
        (
            "Action=EnableVolumeIO&VolumeId=vol-0123456789abcdef0".into(),
            "InvalidVolume.NotFound",
        ),
    ] {
        assert_eq!(world.refused(&body).await, code, "{body}");
    }
}

/// What Kubernetes' driver for EBS volumes goes by: codes, and parts of texts.
#[tokio::test]
async fn what_the_ebs_csi_driver_looks_for() {
    let world = World::new().await;
    let token = "0123456789abcdef".repeat(4);
    let create = format!(
        "Action=CreateVolume&AvailabilityZoneId=use1-az1&Size=4&VolumeType=gp3&ClientToken={token}&\
         TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=CSIVolumeName&\
         TagSpecification.1.Tag.1.Value=pvc-1"
    );
    let made = one(&world.ask(&create).await, "volumeId");
    assert_eq!(one(&world.ask(&create).await, "volumeId"), made);
    let by_name = "Action=DescribeVolumes&Filter.1.Name=tag:CSIVolumeName&Filter.1.Value.1=pvc-1";
    assert_eq!(
        all(&world.ask(by_name).await, "volumeId"),
        std::slice::from_ref(&made)
    );
    let (one_of, other) = {
        let mut ids = world.run(2, "").await;
        for id in &ids {
            world.settle(id, "stopped").await;
        }
        (ids.remove(0), ids.remove(0))
    };
    let probe =
        "Action=CreateVolume&AvailabilityZone=us-east-1a&Size=4&Iops=2147483647&DryRun=true&VolumeType";
    let free = volume(&world, "").await;
    let attach = async |volume: &str, device: &str| {
        let body = format!("Action=AttachVolume&VolumeId={volume}&InstanceId={one_of}&Device={device}");
        world.try_as(&world.who, &body).await
    };
    let attached = attach(&made, "/dev/xvdaa").await.unwrap();
    assert_eq!(one(&attached, "device"), "/dev/xvdaa");
    let shown = world
        .ask(&format!("Action=DescribeVolumes&VolumeId.1={made}"))
        .await;
    assert_eq!(one(&shown, "device"), "/dev/xvdaa");
    for (body, code, text) in [
        (format!("{create}&Iops=3000"), "IdempotentParameterMismatch", ""),
        (
            format!("{probe}=gp3"),
            "InvalidParameterValue",
            "volume iops of 2147483647 is too high; maximum is 80000",
        ),
        (
            format!("{probe}=io1"),
            "InvalidParameterValue",
            "volume iops of 2147483647 is too high; maximum is 64000",
        ),
        (format!("{probe}=io2"), "InvalidParameterCombination", "256k iops"),
        (
            format!("{probe}=gp2"),
            "InvalidParameterCombination",
            "parameter iops is not supported",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=us-east-1a&Size=4&DryRun=true".into(),
            "DryRunOperation",
            "",
        ),
        (
            "Action=DescribeAvailabilityZones&DryRun=true".into(),
            "DryRunOperation",
            "",
        ),
        (
            "Action=DeleteVolume&VolumeId=vol-0123456789abcdef0".into(),
            "InvalidVolume.NotFound",
            "",
        ),
        (
            format!("Action=AttachVolume&VolumeId={free}&InstanceId={one_of}&Device=/dev/xvdaa"),
            "InvalidParameterValue",
            "already in use",
        ),
        (
            format!("Action=AttachVolume&VolumeId={made}&InstanceId={other}&Device=/dev/xvdaa"),
            "VolumeInUse",
            "",
        ),
        (
            format!("Action=DetachVolume&VolumeId={free}&InstanceId={one_of}"),
            "IncorrectState",
            "",
        ),
        (
            format!("Action=DetachVolume&VolumeId={made}&InstanceId={other}"),
            "InvalidAttachment.NotFound",
            "",
        ),
        (
            format!("Action=DetachVolume&VolumeId=vol-0123456789abcdef0&InstanceId={one_of}"),
            "InvalidVolume.NotFound",
            "",
        ),
        (format!("Action=DeleteVolume&VolumeId={made}"), "VolumeInUse", ""),
        (
            format!("Action=DescribeVolumesModifications&VolumeId.1={free}"),
            "InvalidVolumeModification.NotFound",
            "",
        ),
        (
            "Action=EnableFastSnapshotRestores".into(),
            "UnsupportedOperation",
            "",
        ),
    ] {
        let refused = world.try_as(&world.who, &body).await.unwrap_err();
        assert_eq!(refused.code, code, "{body}: {}", refused.message);
        assert!(
            refused.message.to_lowercase().contains(text),
            "{body}: {}",
            refused.message
        );
    }
    // Nothing of this has made anything: both roots, and two volumes.
    let listed = world.ask("Action=DescribeVolumes").await;
    let mut ids = all(&listed, "volumeId");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
    for letters in ('b'..='z')
        .map(|letter| format!("a{letter}"))
        .chain(["ba".into()])
    {
        let next = volume(&world, "").await;
        attach(&next, &format!("/dev/xvd{letters}")).await.unwrap();
    }
    let full = attach(&free, "/dev/xvdbb").await.unwrap_err();
    assert_eq!(full.code, "AttachmentLimitExceeded", "{}", full.message);
}

#[tokio::test]
async fn a_modification_is_told_until_there_is_another() {
    let world = World::new().await;
    let id = volume(&world, "").await;
    let xml = world
        .ask(&format!(
            "Action=ModifyVolume&VolumeId={id}&Size=8&VolumeType=gp3&Throughput=250"
        ))
        .await;
    let member = |xml: &str, name: &str| one(xml, name);
    for (name, value) in [
        ("modificationState", "modifying"),
        ("originalSize", "4"),
        ("targetSize", "8"),
        ("originalVolumeType", "gp2"),
        ("targetVolumeType", "gp3"),
        ("originalIops", "100"),
        ("targetIops", "3000"),
        ("targetThroughput", "250"),
        ("progress", "0"),
        ("volumeId", &id),
    ] {
        assert_eq!(member(&xml, name), value, "{name}");
    }
    assert!(
        !xml.contains("endTime") && !xml.contains("originalThroughput"),
        "{xml}"
    );
    let listed = async |rest: &str| {
        let xml = world
            .ask(&format!("Action=DescribeVolumesModifications{rest}"))
            .await;
        all(&xml, "volumeId")
    };
    for (rest, is_there) in [
        (String::new(), true),
        (format!("&VolumeId.1={id}"), true),
        (
            "&Filter.1.Name=modification-state&Filter.1.Value.1=modifying".into(),
            true,
        ),
        (
            "&Filter.1.Name=modification-state&Filter.1.Value.1=completed".into(),
            false,
        ),
        ("&Filter.1.Name=target-size&Filter.1.Value.1=8".into(), true),
        (
            "&Filter.1.Name=originalMultiAttachEnabled&Filter.1.Value.1=false".into(),
            true,
        ),
    ] {
        let expected = is_there.then(|| id.clone());
        assert_eq!(listed(&rest).await, Vec::from_iter(expected), "{rest}");
    }
    for (body, code, text) in [
        (
            format!("{id}&Size=9"),
            "IncorrectModificationState",
            "cannot be modified in modification state MODIFYING",
        ),
        (
            format!("{id}&Size=9&MultiAttachEnabled=true"),
            "UnsupportedOperation",
            "MultiAttachEnabled",
        ),
        (format!("{id}&Size=-1"), "InvalidParameterValue", "(-1)"),
        (format!("{id}&VolumeType=tape"), "InvalidParameterValue", "tape"),
        (
            "vol-0123456789abcdef0&Size=9".into(),
            "InvalidVolume.NotFound",
            "vol-0123456789abcdef0",
        ),
    ] {
        let refused = world
            .try_as(&world.who, &format!("Action=ModifyVolume&VolumeId={body}"))
            .await
            .unwrap_err();
        assert_eq!(refused.code, code, "{body}: {}", refused.message);
        assert!(refused.message.contains(text), "{body}: {}", refused.message);
    }
    let other = volume(&world, "").await;
    for (rest, code, text) in [
        (
            "Size=3",
            "InvalidParameterValue",
            "New size cannot be smaller than existing size",
        ),
        (
            "Iops=400",
            "InvalidParameterCombination",
            "iops is not supported for gp2",
        ),
        (
            "Size=16385",
            "InvalidParameterValue",
            "is too large for volume type gp2",
        ),
    ] {
        let body = format!("Action=ModifyVolume&VolumeId={other}&{rest}");
        let refused = world.try_as(&world.who, &body).await.unwrap_err();
        assert_eq!(refused.code, code, "{body}: {}", refused.message);
        assert!(refused.message.contains(text), "{body}: {}", refused.message);
    }
    let none = world
        .refused(&format!("Action=ModifyVolume&VolumeId={other}"))
        .await;
    assert_eq!(none, "InvalidParameterCombination");
}

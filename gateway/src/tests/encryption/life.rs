//! The rows of what is made of one another, from a first volume to the instances of an image: each that is encrypted has
//! a data key, and no other has, and all of one line have the same, each sealed for itself.

use std::collections::BTreeMap;

use cumulet_backend::{
    api::audit_log,
    entity::{secret_text::SecretText, snapshot, volume},
    store::{self, disk_keys},
};
use cumulet_certs::DiskKey;
use cumulet_domain::id::VolumeId;

use super::*;

/// The keys of everything that has one, by ids.
#[derive(Debug)]
struct Keys {
    sealed: BTreeMap<String, SecretText>,
    opened: BTreeMap<String, DiskKey>,
}

impl Keys {
    async fn load(world: &World) -> Keys {
        let conn = world.cloud.store.read();
        let volumes = volume::Entity::find().all(conn).await.unwrap();
        let volumes = volumes
            .into_iter()
            .map(|row| (row.id.0.to_string(), row.encrypted.0, row.data_key));
        let snapshots = snapshot::Entity::find().all(conn).await.unwrap();
        let snapshots = snapshots
            .into_iter()
            .map(|row| (row.id.0.to_string(), row.encrypted.0, row.data_key));
        let (mut sealed, mut opened) = (BTreeMap::new(), BTreeMap::new());
        for (id, encrypted, key) in volumes.chain(snapshots) {
            assert_eq!(encrypted, key.is_some(), "{id}");
            if let Some(key) = key {
                opened.insert(
                    id.clone(),
                    disk_keys::open(&world.cloud.sealer, &id, &key).unwrap(),
                );
                sealed.insert(id, key);
            }
        }
        Keys { sealed, opened }
    }

    /// All of these have one key, which is told from all that were seen before.
    fn line(&mut self, ids: &[&String]) {
        let mut keys = Vec::new();
        for id in ids {
            keys.push(
                self.opened
                    .remove(*id)
                    .unwrap_or_else(|| panic!("{id} has no key")),
            );
        }
        assert!(keys.iter().all(|key| *key == keys[0]), "{ids:?}");
        assert!(self.opened.values().all(|key| *key != keys[0]), "{ids:?}");
    }
}

impl World {
    /// The id of the volume of an instance's device.
    async fn volume_of(&self, instance: &str, device: &str) -> String {
        one(&self.disk_of(instance, device).await, "volumeId")
    }

    /// An image that was made of an instance is there.
    async fn image_from(&self, instance: &str) -> (String, Vec<String>) {
        self.settle(instance, "stopped").await;
        let body = format!("Action=CreateImage&Name=made&InstanceId={instance}");
        let image = self.made(&body, "imageId").await;
        let shown = self
            .ask(&format!("Action=DescribeImages&ImageId.1={image}"))
            .await;
        let snapshots = all(&shown, "snapshotId");
        for id in &snapshots {
            self.complete(id).await;
        }
        let numbers = snapshots
            .iter()
            .map(|id| id.parse::<SnapshotId>().unwrap().to_db());
        let numbers: Vec<i64> = numbers.collect();
        let write = self
            .cloud
            .store
            .write(move |txn| Box::pin(async move { store::images::settle(txn, &numbers, None).await }));
        write.await.unwrap();
        (image, snapshots)
    }
}

#[tokio::test]
async fn all_of_one_line_have_one_key_and_nothing_shows_it() {
    let world = World::new().await;
    let first = world
        .made(&format!("{VOLUME}&Size=1&Encrypted=true"), "volumeId")
        .await;
    let taken = world.snapshot_of(&first).await;
    let body = format!("Action=CopySnapshot&SourceRegion=us-east-1&SourceSnapshotId={taken}");
    let copy = world.made(&body, "snapshotId").await;
    let of_copy = world
        .made(&format!("{VOLUME}&SnapshotId={copy}"), "volumeId")
        .await;
    let bare = world.made(&format!("{VOLUME}&Size=1"), "volumeId").await;
    let bare = world.snapshot_of(&bare).await;
    let begun = world
        .made(&format!("{VOLUME}&SnapshotId={bare}&Encrypted=true"), "volumeId")
        .await;
    let again = world
        .made(&format!("{VOLUME}&SnapshotId={bare}&Encrypted=true"), "volumeId")
        .await;

    let image = world.image_of("image", &copy).await;
    let body = format!("Action=CopyImage&SourceRegion=us-east-1&Name=copied&SourceImageId={image}");
    let image = world.made(&body, "imageId").await;
    let shown = world
        .ask(&format!("Action=DescribeImages&ImageId.1={image}"))
        .await;
    let of_image = one(&shown, "snapshotId");
    let more = format!(
        "BlockDeviceMapping.1.DeviceName=/dev/sdf&{}&{}",
        ebs(1, "VolumeSize", "1"),
        ebs(1, "Encrypted", "true")
    );
    let run = format!("Action=RunInstances&ImageId={image}&MinCount=2&MaxCount=2&{more}");
    let instances = all(&world.ask(&run).await, "instanceId");
    let (made, snapshots) = world.image_from(&instances[0]).await;
    let last = world
        .made(
            &format!("Action=RunInstances&ImageId={made}&MinCount=1&MaxCount=1"),
            "instanceId",
        )
        .await;
    let own_root = format!(
        "Action=RunInstances&ImageId={{image}}&MinCount=1&MaxCount=1&BlockDeviceMapping.1.DeviceName=/dev/xvda&{}",
        ebs(1, "Encrypted", "true")
    );
    let alone = world.made(&own_root, "instanceId").await;

    let mut roots = Vec::new();
    let mut data = Vec::new();
    for instance in instances.iter().chain([&last]) {
        roots.push(world.volume_of(instance, "/dev/xvda").await);
        data.push(world.volume_of(instance, "/dev/sdf").await);
    }
    let alone = world.volume_of(&alone, "/dev/xvda").await;
    // The answer has the root's first.
    let (of_root, of_data) = (&snapshots[0], &snapshots[1]);
    let mut keys = Keys::load(&world).await;
    let there = [
        &first,
        &taken,
        &copy,
        &of_copy,
        &root_of(&world, "image").await,
        &of_image,
        of_root,
    ];
    let mut line: Vec<&String> = there.into_iter().chain(&roots).collect();
    line.sort();
    line.dedup();
    keys.line(&line);
    keys.line(&[&data[0], of_data, &data[2]]);
    keys.line(&[&data[1]]);
    keys.line(&[&begun]);
    keys.line(&[&again]);
    keys.line(&[&alone]);
    assert!(keys.opened.is_empty(), "{keys:?}");

    let listed = async |id: &str| {
        let xml = world
            .ask(&format!("Action=DescribeSnapshots&SnapshotId.1={id}"))
            .await;
        one(&xml, "dataEncryptionKeyId")
    };
    let name = listed(&taken).await;
    for id in [&copy, &of_image, of_root] {
        assert_eq!(listed(id).await, name, "{id}");
    }
    assert_ne!(listed(of_data).await, name);
    let conn = world.cloud.store.read();
    for found in [
        store::encryption::findings(conn).await.unwrap(),
        store::images::findings(conn).await.unwrap(),
    ] {
        assert_eq!(found, [""; 0]);
    }
    let mut texts = Vec::new();
    for action in [
        "DescribeVolumes",
        "DescribeSnapshots",
        "DescribeImages",
        "DescribeInstances",
        "DescribeTags",
    ] {
        texts.push(world.ask(&format!("Action={action}")).await);
    }
    let log = audit_log::list(&world.cloud.parts(), world.who.account, 1000)
        .await
        .unwrap();
    texts.push(format!("{log:?} {:?}", keys.sealed));
    texts.push(format!("{:?}", volume::Entity::find().all(conn).await.unwrap()));
    texts.push(format!("{:?}", snapshot::Entity::find().all(conn).await.unwrap()));
    for (id, sealed) in &keys.sealed {
        let (_, sealed) = sealed.expose().split_once('.').unwrap();
        assert!(sealed.len() > 32);
        assert!(texts.iter().all(|text| !text.contains(sealed)), "{id}");
    }
}

/// The snapshot of the root of the image of this name.
async fn root_of(world: &World, name: &str) -> String {
    let filter = format!("Filter.1.Name=name&Filter.1.Value.1={name}");
    one(
        &world.ask(&format!("Action=DescribeImages&{filter}")).await,
        "snapshotId",
    )
}

#[tokio::test]
async fn rows_that_break_the_rule_are_found() {
    let world = World::new().await;
    let (plain, encrypted) = (world.snapshot(false).await, world.snapshot(true).await);
    world.image_of("encrypted", &encrypted).await;
    let volume = world
        .made(&format!("{VOLUME}&SnapshotId={encrypted}"), "volumeId")
        .await;
    let snapshot = world.snapshot_of(&volume).await;
    let other = disk_keys::fresh(&world.cloud.rng, &world.cloud.sealer, &volume).unwrap();
    let number = volume.parse::<VolumeId>().unwrap().to_db();
    let write = world.cloud.store.write(move |txn| {
        Box::pin(async move {
            let update = volume::Entity::update_many()
                .col_expr(volume::Column::DataKey, Expr::value(other))
                .filter(volume::Column::Id.eq(number));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
    let mut found = store::encryption::findings(world.cloud.store.read())
        .await
        .unwrap();
    found.sort();
    let mut expected = [
        format!("{volume} has another data key than {encrypted}, which it is made of"),
        format!("{snapshot} has another data key than {volume}, which it is of"),
    ];
    expected.sort();
    assert_eq!(found, expected);
    let write = world.cloud.store.write(move |txn| {
        Box::pin(async move {
            for (id, on) in [(plain, 1), (encrypted, 0)] {
                let id: SnapshotId = id.parse().unwrap();
                let update = snapshot::Entity::update_many()
                    .col_expr(snapshot::Column::Encrypted, Expr::value(on))
                    .filter(snapshot::Column::Id.eq(id.to_db()));
                update.exec(txn).await.map_err(failed)?;
            }
            Ok(())
        })
    });
    write.await.unwrap();
    let conn = world.cloud.store.read();
    let mut found = store::encryption::findings(conn).await.unwrap();
    found.retain(|text| !text.contains("another"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].ends_with("is encrypted and has no data key"),
        "{found:?}"
    );
    assert!(
        found[1].ends_with("is not encrypted and has a data key"),
        "{found:?}"
    );
    let found = store::images::findings(conn).await.unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
}

#[tokio::test]
async fn a_snapshot_is_taken_over_one_with_its_own_key_alone() {
    let world = World::new().await;
    let sources = [world.snapshot(false).await, world.snapshot(true).await];
    for id in &sources {
        let (id, manifest) = (id.parse::<SnapshotId>().unwrap(), id.clone());
        let write = world.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = snapshot::Entity::update_many()
                    .col_expr(snapshot::Column::Manifest, Expr::value(manifest))
                    .filter(snapshot::Column::Id.eq(id.to_db()));
                update.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }
    for (source, asked, is_over) in [
        (&sources[0], "", true),
        (&sources[0], "&Encrypted=true", false),
        (&sources[1], "", true),
    ] {
        let volume = world
            .made(&format!("{VOLUME}&SnapshotId={source}{asked}"), "volumeId")
            .await;
        let number = volume.parse::<VolumeId>().unwrap().to_db();
        let write = world.cloud.store.write(move |txn| {
            Box::pin(async move {
                let made = volume::Entity::update_many()
                    .col_expr(volume::Column::MadeAt, Expr::value(NOW.0))
                    .filter(volume::Column::Id.eq(number));
                made.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
        let body = format!("Action=CreateSnapshot&VolumeId={volume}");
        let id: SnapshotId = world.made(&body, "snapshotId").await.parse().unwrap();
        let made_of = source.parse::<SnapshotId>().unwrap().to_db();
        let write = world.cloud.store.write(move |txn| {
            Box::pin(async move {
                let row = store::snapshots::load(txn, &[id.to_db()]).await?.remove(0);
                store::snapshots::told(txn, &row, Some(made_of), "host-1").await?;
                Ok(store::snapshots::load(txn, &[id.to_db()]).await?.remove(0))
            })
        });
        let base = write.await.unwrap().base;
        assert_eq!(base, is_over.then(|| source.clone()), "{source}{asked}");
    }
}

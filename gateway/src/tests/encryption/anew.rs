//! Plain data that is to be encrypted, as clients see it: pending, until a host has done it.

use cumulet_backend::entity::snapshot;

use super::*;

#[tokio::test]
async fn what_is_encrypted_anew_is_pending_until_a_host_has_done_it() {
    let world = World::new().await;
    let plain = world.snapshot(false).await;
    world.has_data(&plain).await;
    let copy = format!("Action=CopySnapshot&SourceRegion=us-east-1&SourceSnapshotId={plain}");
    let copied = world.ask(&format!("{copy}&Encrypted=true")).await;
    let copied = one(&copied, "snapshotId");
    let unmade = format!("{VOLUME}&SnapshotId={plain}&Encrypted=true");
    let unmade = world.made(&unmade, "volumeId").await;
    let taken = format!("Action=CreateSnapshot&VolumeId={unmade}");
    let taken = world.made(&taken, "snapshotId").await;
    for id in [&copied, &taken] {
        let shown = format!("Action=DescribeSnapshots&SnapshotId.1={id}");
        for (state, progress) in [("pending", "0%"), ("completed", "100%")] {
            let xml = world.ask(&shown).await;
            assert_eq!(
                (one(&xml, "status"), one(&xml, "progress")),
                (state.into(), progress.into())
            );
            assert_eq!(one(&xml, "encrypted"), "true");
            if state == "pending" {
                world.has_come(id, 42).await;
                let half = format!("{shown}&Filter.1.Name=progress&Filter.1.Value.1=42%25");
                assert_eq!(one(&world.ask(&half).await, "progress"), "42%");
                let early = world.refused(&format!("{VOLUME}&SnapshotId={id}")).await;
                assert_eq!(early, "IncorrectState");
                world.complete(id).await;
            }
        }
    }
    // A plain copy of it is there at once.
    let at_once = world.made(&copy, "snapshotId").await;
    let xml = world
        .ask(&format!("Action=DescribeSnapshots&SnapshotId.1={at_once}"))
        .await;
    assert_eq!(one(&xml, "status"), "completed");
}

impl World {
    /// A host has told how far it has come.
    async fn has_come(&self, id: &str, percent: u8) {
        let id: SnapshotId = id.parse().unwrap();
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let come = snapshot::Entity::update_many()
                    .col_expr(snapshot::Column::Progress, Expr::value(i64::from(percent)))
                    .filter(snapshot::Column::Id.eq(id.to_db()));
                come.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    /// A snapshot is of a disk that was written to.
    async fn has_data(&self, id: &str) {
        let id: SnapshotId = id.parse().unwrap();
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let data = snapshot::Entity::update_many()
                    .col_expr(snapshot::Column::Manifest, Expr::value("a".repeat(64)))
                    .filter(snapshot::Column::Id.eq(id.to_db()));
                data.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }
}

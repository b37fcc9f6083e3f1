//! What goes, what stays, and when, on a clock that the test moves.

use std::time::Duration;

use cumulet_backend::test_support::{Rig, cloud, overlap};
use cumulet_compute::instances::{LaunchSpec, get, launch, terminate};
use cumulet_core::{
    ClientToken, PageRequest,
    audit_log::{self},
    retention::{Retention, RetentionPeriod},
    tags as tagging,
    tags::{TagQuery, TagTarget},
};
use cumulet_domain::{
    Error,
    id::{InstanceId, OperationId, SnapshotId, VolumeId},
    snapshot::SnapshotState,
    tag::Tag,
};
use cumulet_journal::{self, End, How};
use cumulet_operations::{Terminate, instance::subject};
use cumulet_store::{
    Store,
    entity::{
        audit_event, client_token,
        columns::{Key, Named},
        instance, interface, interface_address, interface_group, metadata_push, operation, reservation,
        snapshot, volume, volume_attachment,
    },
};
use sea_orm::{ColumnTrait as _, EntityTrait, PaginatorTrait, QueryFilter as _, sea_query::Expr};

use crate::sweep::*;

const HOUR: Duration = Duration::from_hours(1);

async fn count<E: EntityTrait<Model: Sync>>(rig: &Rig) -> u64 {
    E::find().count(rig.cloud.store.read()).await.unwrap()
}

async fn tag_it(rig: &Rig, id: impl std::fmt::Display) {
    let target = TagTarget::parse(&id.to_string()).unwrap();
    let (key, value) = ("k".into(), "v".into());
    let tag = Tag { key, value };
    tagging::create(&rig.cloud, &rig.who, &[target], &[tag])
        .await
        .unwrap();
}

fn spec(rig: &Rig, number: u32, token: Option<&str>) -> LaunchSpec {
    let mut spec = rig.spec();
    (spec.min, spec.max) = (number, number);
    spec.client_token = token.map(|token| ClientToken {
        token: token.into(),
        request_hash: "h".into(),
    });
    spec
}

/// Launches instances, with a token where one is given, and tags each.
async fn launched(rig: &Rig, number: u32, token: Option<&str>) -> Vec<InstanceId> {
    let made = launch(&rig.cloud, &rig.who, spec(rig, number, token))
        .await
        .unwrap();
    let ids: Vec<InstanceId> = made.instances.iter().map(|view| view.id()).collect();
    for id in &ids {
        tag_it(rig, id).await;
    }
    ids
}

/// Ends instances as their hosts' reports do.
async fn end(rig: &Rig, ids: &[InstanceId]) {
    terminate(&rig.cloud, &rig.who, ids).await.unwrap();
    let now = rig.cloud.now();
    for id in ids {
        let operation = cumulet_journal::active(rig.cloud.store.read(), subject(id.to_db())).await;
        let operation = operation.unwrap().unwrap();
        let end = End {
            how: How::Done,
            now,
            next: OperationId::new(1),
        };
        let write = rig.cloud.store.write(move |txn| {
            Box::pin(async move { cumulet_journal::end_in::<Terminate>(txn, &operation, &end).await })
        });
        assert!(write.await.unwrap());
    }
}

async fn swept(rig: &Rig) -> Swept {
    let keep = rig.cloud.config.retention;
    sweep(&rig.cloud.store, &keep, rig.cloud.now()).await.unwrap()
}

async fn tagged(rig: &Rig) -> usize {
    let page = PageRequest {
        limit: None,
        after: None,
    };
    let tags = tagging::describe(&rig.cloud, &rig.who, &TagQuery::default(), page).await;
    tags.unwrap().rows.len()
}

async fn is_found(rig: &Rig, id: InstanceId) -> bool {
    match get(&rig.cloud, &rig.who, id).await {
        Ok(_) => true,
        Err(Error::NotFound { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn everything_goes_when_it_has_had_its_time() {
    let rig = cloud().await;
    let start = rig.cloud.now();
    audit_log::record(
        &rig.cloud,
        cumulet_backend::test_support::audit_log_entry(rig.who.account),
    )
    .await
    .unwrap();
    let plain = launched(&rig, 1, None).await;
    let with_token = launched(&rig, 1, Some("t")).await;
    end(&rig, &[plain[0], with_token[0]]).await;
    assert_eq!(count::<interface::Entity>(&rig).await, 0);
    assert_eq!(count::<interface_group::Entity>(&rig).await, 0);

    // Its root volume has ended with it, and can be tagged as long as it is seen.
    tag_it(&rig, VolumeId::from_db(plain[0].to_db())).await;
    rig.pass(HOUR - Duration::from_millis(1));
    assert_eq!(swept(&rig).await, Swept::default());
    assert!(is_found(&rig, plain[0]).await && is_found(&rig, with_token[0]).await);
    assert_eq!(tagged(&rig).await, 3);

    // The one that a token stands for stays, out of sight and without tags.
    rig.pass(Duration::from_millis(1));
    let expected = Swept {
        instances: 1,
        volumes: 2,
        ..Swept::default()
    };
    assert_eq!(swept(&rig).await, expected);
    assert!(!is_found(&rig, plain[0]).await && !is_found(&rig, with_token[0]).await);
    assert_eq!(tagged(&rig).await, 0);
    assert_eq!(
        (
            count::<instance::Entity>(&rig).await,
            count::<reservation::Entity>(&rig).await,
            count::<operation::Entity>(&rig).await
        ),
        (1, 1, 4)
    );

    rig.pass(HOUR * 23 - Duration::from_millis(1));
    assert_eq!(swept(&rig).await, Swept::default());
    let again = launch(&rig.cloud, &rig.who, spec(&rig, 1, Some("t")))
        .await
        .unwrap();
    assert_eq!(again.instances[0].id(), with_token[0]);

    rig.pass(Duration::from_millis(1));
    let expected = Swept {
        client_tokens: 1,
        instances: 1,
        volumes: 0,
        snapshots: 0,
        images: 0,
        operations: 4,
        audit_log: 0,
    };
    assert_eq!(swept(&rig).await, expected);
    for left in [
        count::<instance::Entity>(&rig).await,
        count::<reservation::Entity>(&rig).await,
        count::<operation::Entity>(&rig).await,
        count::<client_token::Entity>(&rig).await,
        count::<metadata_push::Entity>(&rig).await,
        count::<volume::Entity>(&rig).await,
        count::<volume_attachment::Entity>(&rig).await,
        count::<interface_address::Entity>(&rig).await,
    ] {
        assert_eq!(left, 0);
    }

    rig.pass(start.after(HOUR * 24 * 90).since(rig.cloud.now()));
    assert_eq!(swept(&rig).await.audit_log, 1);
    assert_eq!(count::<audit_event::Entity>(&rig).await, 0);
}

#[tokio::test]
async fn many_go_in_batches_and_a_reservation_with_its_last_instance() {
    let rig = cloud().await;
    let ids = launched(&rig, 11, None).await;
    end(&rig, &ids[..7]).await;
    rig.pass(HOUR / 2);
    end(&rig, &ids[7..]).await;
    rig.pass(HOUR / 2);
    assert_eq!(swept(&rig).await.instances, 7);
    assert_eq!(count::<instance::Entity>(&rig).await, 4);
    assert_eq!(count::<reservation::Entity>(&rig).await, 1);
    rig.pass(HOUR / 2);
    assert_eq!(swept(&rig).await.instances, 4);
    assert_eq!(count::<reservation::Entity>(&rig).await, 0);
    assert_eq!(tagged(&rig).await, 0);
    rig.pass(HOUR * 24);
    assert_eq!(swept(&rig).await.operations, 22);
}

#[tokio::test]
async fn what_lives_stays_and_what_is_kept_for_ever_too() {
    let rig = cloud().await;
    let living = launched(&rig, 2, Some("t")).await;
    let gone = launched(&rig, 1, None).await;
    end(&rig, &gone).await;
    audit_log::record(
        &rig.cloud,
        cumulet_backend::test_support::audit_log_entry(rig.who.account),
    )
    .await
    .unwrap();
    rig.pass(HOUR * 24 * 3650);
    let ever = RetentionPeriod::seconds(0);
    let keep = Retention {
        terminated_instances: ever,
        client_tokens: ever,
        operations: ever,
        audit_log: ever,
        audit_log_bytes: 0,
    };
    let now = rig.cloud.now();
    assert_eq!(
        sweep(&rig.cloud.store, &keep, now).await.unwrap(),
        Swept::default()
    );
    let expected = Swept {
        client_tokens: 1,
        instances: 1,
        volumes: 1,
        snapshots: 0,
        images: 0,
        operations: 2,
        audit_log: 1,
    };
    assert_eq!(swept(&rig).await, expected);
    assert!(is_found(&rig, living[0]).await && is_found(&rig, living[1]).await);
    // The operations of the living are under way.
    assert_eq!(count::<operation::Entity>(&rig).await, 2);
    assert_eq!(count::<reservation::Entity>(&rig).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sweepers_of_one_reservation_leave_none_of_it() {
    let rig = cloud().await;
    let ids = launched(&rig, 2, None).await;
    end(&rig, &ids).await;
    let of = async |store: &Store, id: InstanceId| {
        let write = store.write(move |txn| Box::pin(async move { forget(txn, vec![id.to_db()]).await }));
        write.await
    };
    let (one, two) = overlap(
        &rig.cloud.store,
        async |store| of(&store, ids[0]).await,
        async || of(&rig.cloud.store, ids[1]).await,
    )
    .await;
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!(count::<instance::Entity>(&rig).await, 0);
    assert_eq!(count::<reservation::Entity>(&rig).await, 0);
}

/// A13: whoever makes many calls makes the log no larger than it may be.
#[tokio::test]
async fn the_audit_log_has_a_size_beyond_which_the_oldest_go() {
    let rig = cloud().await;
    let record = async |count: usize| {
        for _ in 0..count {
            rig.pass(Duration::from_millis(1));
            audit_log::record(
                &rig.cloud,
                cumulet_backend::test_support::audit_log_entry(rig.who.account),
            )
            .await
            .unwrap();
        }
    };
    record(40).await;
    let keep = Retention {
        // Some twenty entries of the sample.
        audit_log_bytes: 20 * 180,
        ..Retention::default()
    };
    let left = async |keep: &Retention| {
        sweep(&rig.cloud.store, keep, rig.cloud.now()).await.unwrap();
        audit_log::list(&rig.cloud.parts(), rig.who.account, 100)
            .await
            .unwrap()
    };
    let newest = left(&Retention::default()).await;
    assert_eq!(newest.len(), 40);
    let kept = left(&keep).await;
    assert!((10..=20).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept, newest[..kept.len()]);
    record(1).await;
    assert_eq!(left(&keep).await.len(), kept.len());
}

/// The row of a deleted snapshot stays for as long as a volume is yet to be made of it.
#[tokio::test]
async fn a_deleted_snapshot_goes_when_no_volume_waits_for_it() {
    let rig = cloud().await;
    launch(&rig.cloud, &rig.who, spec(&rig, 1, None)).await.unwrap();
    let write = rig.cloud.store.write(|txn| {
        Box::pin(async move {
            let row = volume::Entity::find().one(txn).await.map_err(failed)?.unwrap();
            let of = |id: u64, deleted_at: Option<i64>| snapshot::Model {
                id: Key(SnapshotId::new(id << 40)),
                account: row.account,
                volume: row.id,
                size_gib: row.size_gib,
                state: Named(SnapshotState::Completed),
                state_message: None,
                description: String::new(),
                encrypted: Default::default(),
                public: Default::default(),
                manifest: None,
                base: None,
                bytes: None,
                host: None,
                created_at: 0,
                completed_at: Some(0),
                deleted_at,
                data_key: None,
                progress: None,
            };
            for (id, deleted) in [(1, Some(0)), (2, Some(0)), (3, None)] {
                let made = snapshot::ActiveModel::from(of(id, deleted));
                let insert = snapshot::Entity::insert(made).exec_without_returning(txn);
                insert.await.map_err(failed)?;
            }
            let awaits = volume::Entity::update_many()
                .col_expr(
                    volume::Column::Snapshot,
                    Expr::value(SnapshotId::new(2 << 40).to_db()),
                )
                .filter(volume::Column::Id.eq(row.id));
            awaits.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
    rig.pass(HOUR * 2);
    assert_eq!(swept(&rig).await.snapshots, 1);
    assert_eq!(count::<snapshot::Entity>(&rig).await, 2);
    let write = rig.cloud.store.write(|txn| {
        Box::pin(async move {
            let made = volume::Entity::update_many().col_expr(volume::Column::MadeAt, Expr::value(1));
            made.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
    assert_eq!(swept(&rig).await.snapshots, 0, "a root lies over it");
    let write = rig.cloud.store.write(|txn| {
        Box::pin(async move {
            let settled = volume::Entity::update_many().col_expr(volume::Column::Host, Expr::value("one"));
            settled.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
    assert_eq!(swept(&rig).await.snapshots, 1);
    assert_eq!(count::<snapshot::Entity>(&rig).await, 1);
}

//! Calls for copies of volumes, up to what they write.

use cumulet_core::{ClientToken, PageRequest};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    error::Limit,
    id::VolumeId,
    snapshot::SnapshotState,
    tag::Tag,
    volume::{EncryptionAsked, Provisioned, VolumeState, VolumeType},
};
use cumulet_store::{
    encryption,
    entity::{snapshot, volume},
    failed, snapshots, volume_copies,
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use crate::{
    api::volumes::*,
    test_support::{QUOTAS, Rig, ZONE, cloud},
};

fn new(source: VolumeId) -> NewCopy {
    NewCopy {
        source,
        size_gib: None,
        kind: VolumeType::Gp2,
        provisioned: Provisioned::default(),
        encryption: EncryptionAsked::default(),
        tags: Vec::new(),
        client_token: None,
    }
}

fn tag(key: &str) -> Tag {
    Tag {
        key: key.into(),
        value: String::new(),
    }
}

impl Rig {
    async fn source(&self, who: &Principal, size_gib: u32) -> VolumeId {
        let new = NewVolume {
            availability_zone: ZONE.into(),
            size_gib: Some(size_gib),
            snapshot: None,
            kind: VolumeType::Gp3,
            provisioned: Provisioned {
                iops: None,
                throughput: Some(200),
            },
            encryption: EncryptionAsked::default(),
            tags: vec![tag("of the source")],
            client_token: None,
        };
        create(&self.cloud, who, new).await.unwrap().id()
    }

    async fn copy(&self, new: NewCopy) -> Result<VolumeView> {
        copy(&self.cloud, &self.who, new).await
    }

    async fn hidden(&self) -> Vec<snapshot::Model> {
        snapshot::Entity::find()
            .all(self.cloud.store.read())
            .await
            .unwrap()
    }
}

/// Hosts have taken all that they were asked for.
async fn all_taken(rig: &Rig) {
    let ids: Vec<i64> = rig.hidden().await.iter().map(|row| row.id.to_db()).collect();
    let now = rig.cloud.now();
    let write = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            snapshots::close(txn, &ids, None, now).await?;
            volume_copies::settle(txn, &ids, None).await
        })
    });
    write.await.unwrap();
}

#[tokio::test]
async fn a_copy_has_nothing_of_its_source_but_the_zone_and_what_is_in_it() {
    let rig = cloud().await;
    let source = rig.source(&rig.who, 3).await;
    let asked = NewCopy {
        tags: vec![tag("b"), tag("a")],
        ..new(source)
    };
    let made = rig.copy(asked).await.unwrap();
    assert_eq!(made.tags, [tag("a"), tag("b")]);
    assert_eq!(made.attachment, None);
    let (row, now) = (&made.row, rig.cloud.now().0);
    assert_eq!(
        (row.availability_zone.as_str(), row.size_gib.0, row.created_at),
        (ZONE, 3, now)
    );
    assert_eq!(
        (row.volume_type.0, row.iops, row.throughput),
        (VolumeType::Gp2, None, None)
    );
    assert_eq!(row.source_volume.map(|id| id.0), Some(source));
    let query = VolumeQuery {
        ids: vec![made.id()],
        ..VolumeQuery::default()
    };
    let shown = describe(&rig.cloud, &rig.who, &query, PageRequest::default()).await;
    assert_eq!(shown.unwrap().rows, std::slice::from_ref(&made));
    // The snapshot is deleted from the beginning, and without a tag.
    let hidden = rig.hidden().await;
    let (id, volume) = (hidden[0].id, hidden[0].volume.0);
    assert_eq!((hidden.len(), Some(id), volume), (1, made.row.snapshot, source));
    assert_eq!(
        (hidden[0].state.0, hidden[0].deleted_at),
        (SnapshotState::Pending, Some(now))
    );
}

#[tokio::test]
async fn the_same_token_is_one_copy() {
    let rig = cloud().await;
    let source = rig.source(&rig.who, 1).await;
    let token = |request_hash: &str| NewCopy {
        client_token: Some(ClientToken {
            token: "t".into(),
            request_hash: request_hash.into(),
        }),
        ..new(source)
    };
    let made = rig.copy(token("a")).await.unwrap();
    assert_eq!(rig.copy(token("a")).await.unwrap(), made);
    let other = rig.copy(token("b")).await;
    assert!(
        matches!(other, Err(Error::IdempotentParameterMismatch { .. })),
        "{other:?}"
    );
    assert_eq!(rig.hidden().await.len(), 1);
}

#[tokio::test]
async fn what_can_not_be_a_copy_is_refused_and_leaves_nothing() {
    let rig = cloud().await;
    let source = rig.source(&rig.who, 3).await;
    let sized = |size_gib| NewCopy {
        size_gib: Some(size_gib),
        ..new(source)
    };
    for gib in [0, 2, 16_385] {
        let refused = rig.copy(sized(gib)).await;
        assert!(
            matches!(refused, Err(Error::InvalidParameter { .. })),
            "{gib}: {refused:?}"
        );
    }
    // As large as the source, which one of this type can't be.
    let small = NewCopy {
        kind: VolumeType::St1,
        ..new(source)
    };
    assert!(matches!(
        rig.copy(small).await,
        Err(Error::InvalidParameter { .. })
    ));
    let theirs = rig.source(&rig.stranger, 1).await;
    for other in [theirs, VolumeId::new(5 << 40)] {
        assert!(
            matches!(rig.copy(new(other)).await, Err(Error::NotFound { .. })),
            "{other}"
        );
    }
    let refused = copy(&rig.cloud, &rig.reader(), new(source)).await;
    assert!(matches!(refused, Err(Error::Unauthorized { .. })), "{refused:?}");
    for state in [VolumeState::Creating, VolumeState::Deleting, VolumeState::Error] {
        let write = rig.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = volume::Entity::update_many()
                    .col_expr(volume::Column::State, Expr::value(state.name()))
                    .filter(volume::Column::Id.eq(source.to_db()));
                update.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
        let refused = rig.copy(new(source)).await;
        assert!(
            matches!(refused, Err(Error::IncorrectState { .. })),
            "{state}: {refused:?}"
        );
    }
    assert_eq!(rig.hidden().await, []);
}

#[tokio::test]
async fn copies_count_as_volumes_and_what_they_are_made_of_as_nothing() {
    let rig = cloud().await;
    let source = rig.source(&rig.who, 1).await;
    let most = u32::try_from(QUOTAS.volume_gib).unwrap();
    // Several types are as large as that.
    let large = |size_gib| NewCopy {
        size_gib: Some(size_gib),
        kind: VolumeType::Gp3,
        ..new(source)
    };
    let refused = rig.copy(large(most)).await.unwrap_err();
    let (limit, max) = (Limit::VolumeStorage, QUOTAS.volume_gib);
    assert_eq!(refused, Error::LimitExceeded { limit, max });
    rig.copy(large(most - 100)).await.unwrap();
    for _ in 2..QUOTAS.volumes {
        rig.copy(new(source)).await.unwrap();
        all_taken(&rig).await;
    }
    let refused = rig.copy(new(source)).await.unwrap_err();
    let (limit, max) = (Limit::Volumes, QUOTAS.volumes);
    assert_eq!(refused, Error::LimitExceeded { limit, max });
    // There is room for every snapshot.
    for _ in 0..QUOTAS.snapshots {
        let of = crate::api::snapshots::NewSnapshot {
            volume: source,
            description: String::new(),
            tags: Vec::new(),
        };
        crate::api::snapshots::create(&rig.cloud, &rig.who, of)
            .await
            .unwrap();
        all_taken(&rig).await;
    }
}

/// A host takes what is hidden as any other, and does so when the copy is gone.
#[tokio::test]
async fn what_copies_are_made_of_counts_while_it_is_being_taken_whatever_becomes_of_them() {
    let rig = cloud().await;
    let (one, other) = (rig.source(&rig.who, 1).await, rig.source(&rig.who, 1).await);
    let copy_and_delete = async |source: VolumeId| {
        let made = rig.copy(new(source)).await?;
        delete(&rig.cloud, &rig.who, made.id()).await
    };
    let (limit, max) = (Limit::PendingSnapshotsPerVolume, 5);
    for _ in 0..max {
        copy_and_delete(one).await.unwrap();
    }
    let refused = copy_and_delete(one).await.unwrap_err();
    assert_eq!(refused, Error::LimitExceeded { limit, max });
    let (limit, max) = (Limit::PendingSnapshots, QUOTAS.pending_snapshots);
    for _ in 5..max {
        copy_and_delete(other).await.unwrap();
    }
    let refused = copy_and_delete(other).await.unwrap_err();
    assert_eq!(refused, Error::LimitExceeded { limit, max });
    // What was refused has left nothing.
    assert_eq!(rig.hidden().await.len() as u64, max);
    // It is nobody else's affair.
    let theirs = rig.source(&rig.stranger, 1).await;
    copy(&rig.cloud, &rig.stranger, new(theirs)).await.unwrap();
    all_taken(&rig).await;
    rig.copy(new(one)).await.unwrap();
}

#[tokio::test]
async fn an_account_that_wants_encryption_has_it_in_copies() {
    let rig = cloud().await;
    let source = rig.source(&rig.who, 1).await;
    let account = rig.who.account;
    let write = rig
        .cloud
        .store
        .write(move |txn| Box::pin(async move { encryption::set_by_default(txn, account, true).await }));
    write.await.unwrap();
    let asked = NewCopy {
        encryption: EncryptionAsked {
            encrypted: Some(false),
            key: None,
        },
        ..new(source)
    };
    let made = rig.copy(asked).await.unwrap();
    assert!(made.row.encrypted.0 && made.row.data_key.is_some());
    assert!(!rig.hidden().await[0].encrypted.0, "it is of what is plain");
}

//! How many snapshots an account has, how many of them are under way at a time, and with how many accounts one is shared,
//! and an image.

use cumulet_domain::{
    Error, Result,
    account::{AccountId, Principal},
    error::Limit,
    id::{SnapshotId, VolumeId},
    instance::State,
    snapshot::{SnapshotState, TakenSnapshot},
    volume::{EncryptionAsked, Provisioned, VolumeType},
};
use cumulet_store::{
    entity::{columns::Named, snapshot},
    snapshots as store,
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use crate::{
    Cloud,
    api::{
        images::{self, CreatedImage, ImageChange},
        instances,
        snapshots::{self as api, Copy, Grantees, NewSnapshot, NewSnapshots, Sharing},
        volumes::{self, NewCopy, NewVolume},
    },
    test_support::{QUOTAS, Rig, ZONE, cloud},
};

/// A volume as small as one of its type can be.
async fn volume_of(rig: &Rig, who: &Principal, kind: VolumeType) -> VolumeId {
    let provisioned = Provisioned {
        iops: matches!(kind, VolumeType::Io1 | VolumeType::Io2).then_some(100),
        throughput: None,
    };
    let new = NewVolume {
        availability_zone: ZONE.into(),
        size_gib: Some(*kind.sizes().start()),
        snapshot: None,
        kind,
        provisioned,
        encryption: EncryptionAsked::default(),
        tags: Vec::new(),
        client_token: None,
    };
    volumes::create(&rig.cloud, who, new).await.unwrap().id()
}

async fn volume(rig: &Rig) -> VolumeId {
    volume_of(rig, &rig.who, VolumeType::Gp3).await
}

async fn take(cloud: &Cloud, who: &Principal, volume: VolumeId) -> Result<SnapshotId> {
    let new = NewSnapshot {
        volume,
        description: String::new(),
        tags: Vec::new(),
    };
    Ok(api::create(cloud, who, new).await?.id())
}

/// Hosts have taken all that they were asked for, and have found something.
async fn all_taken(rig: &Rig) {
    let pending = snapshot::Entity::find()
        .filter(snapshot::Column::State.eq(Named(SnapshotState::Pending)))
        .all(rig.cloud.store.read())
        .await
        .unwrap();
    let ids: Vec<i64> = pending.iter().map(|row| row.id.to_db()).collect();
    let now = rig.cloud.now();
    let write = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            for row in &pending {
                let taken = TakenSnapshot {
                    id: row.id.0,
                    manifest: "a".repeat(64),
                    fresh_bytes: 1,
                    bytes: 1,
                };
                store::taken(txn, &taken).await?;
            }
            store::close(txn, &ids, None, now).await
        })
    });
    write.await.unwrap();
}

fn exceeded(limit: Limit, max: u64) -> Error {
    Error::LimitExceeded { limit, max }
}

#[tokio::test]
async fn a_volume_has_so_many_under_way_as_its_type_says() {
    use VolumeType::*;
    for (kind, most) in [
        (Gp2, 5),
        (Gp3, 5),
        (Io1, 5),
        (Io2, 5),
        (Standard, 5),
        (St1, 1),
        (Sc1, 1),
    ] {
        let rig = cloud().await;
        let of = volume_of(&rig, &rig.who, kind).await;
        for _ in 0..most {
            take(&rig.cloud, &rig.who, of).await.unwrap();
        }
        let refused = take(&rig.cloud, &rig.who, of).await.unwrap_err();
        assert_eq!(
            refused,
            exceeded(Limit::PendingSnapshotsPerVolume, most),
            "{kind}"
        );
        // That is so of this one alone, and for as long as they are under way.
        take(&rig.cloud, &rig.who, volume(&rig).await).await.unwrap();
        all_taken(&rig).await;
        take(&rig.cloud, &rig.who, of).await.unwrap();
    }
}

#[tokio::test]
async fn an_account_has_so_many_under_way_however_they_are_asked_for() {
    let rig = cloud().await;
    let (cloud, who) = (&rig.cloud, &rig.who);
    let launched = instances::launch(cloud, who, rig.spec()).await.unwrap();
    let instance = launched.instances[0].id();
    rig.settle(instance, State::Stopped).await;
    let (one, two) = (volume(&rig).await, volume(&rig).await);
    for n in 0..QUOTAS.pending_snapshots {
        let of = if n % 2 == 0 { one } else { two };
        take(cloud, who, of).await.unwrap();
    }
    let full = exceeded(Limit::PendingSnapshots, QUOTAS.pending_snapshots);
    let other = volume(&rig).await;
    assert_eq!(take(cloud, who, other).await.unwrap_err(), full);
    let of_instance = NewSnapshots {
        instance,
        exclude_root: false,
        exclude: Vec::new(),
        description: String::new(),
        tags: Vec::new(),
        copy_tags: false,
    };
    let refused = api::create_all(cloud, who, of_instance.clone()).await;
    assert_eq!(refused.unwrap_err(), full);
    let image = CreatedImage {
        instance,
        name: "image".into(),
        description: String::new(),
        no_reboot: true,
        disks: Vec::new(),
        tags: Vec::new(),
        snapshot_tags: Vec::new(),
    };
    let refused = images::create(cloud, who, image.clone()).await;
    assert_eq!(refused.unwrap_err(), full);
    let copy = NewCopy {
        source: other,
        size_gib: None,
        kind: VolumeType::Gp3,
        provisioned: Provisioned::default(),
        encryption: EncryptionAsked::default(),
        tags: Vec::new(),
        client_token: None,
    };
    let refused = volumes::copy(cloud, who, copy.clone()).await;
    assert_eq!(refused.unwrap_err(), full);
    // Nothing is left of what was refused, and others have their own.
    let rows = snapshot::Entity::find().all(cloud.store.read()).await.unwrap();
    assert_eq!(rows.len() as u64, QUOTAS.pending_snapshots);
    let theirs = volume_of(&rig, &rig.stranger, VolumeType::Gp3).await;
    take(cloud, &rig.stranger, theirs).await.unwrap();

    all_taken(&rig).await;
    take(cloud, who, other).await.unwrap();
    api::create_all(cloud, who, of_instance).await.unwrap();
    images::create(cloud, who, image).await.unwrap();
    volumes::copy(cloud, who, copy).await.unwrap();
}

#[tokio::test]
async fn an_account_has_so_many_copies_under_way_that_are_encrypted() {
    let rig = cloud().await;
    let source = take(&rig.cloud, &rig.who, volume(&rig).await).await.unwrap();
    all_taken(&rig).await;
    let copy = async |encrypted: Option<bool>| {
        let what = Copy {
            source,
            description: String::new(),
            encryption: EncryptionAsked { encrypted, key: None },
            tags: Vec::new(),
        };
        api::copy(&rig.cloud, &rig.who, what).await.map(drop)
    };
    for _ in 0..QUOTAS.pending_snapshot_copies {
        copy(Some(true)).await.unwrap();
    }
    let full = exceeded(Limit::PendingSnapshotCopies, QUOTAS.pending_snapshot_copies);
    assert_eq!(copy(Some(true)).await.unwrap_err(), full);
    // One that is there at once is never under way.
    copy(None).await.unwrap();
    all_taken(&rig).await;
    copy(Some(true)).await.unwrap();
}

/// As on EBS: no host has answered here.
#[tokio::test]
async fn what_is_deleted_while_it_is_taken_is_under_way_until_it_is_done() {
    let rig = cloud().await;
    let (cloud, who) = (&rig.cloud, &rig.who);
    let (full, other, third) = (volume(&rig).await, volume(&rig).await, volume(&rig).await);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(take(cloud, who, full).await.unwrap());
    }
    api::delete(cloud, who, made[0]).await.unwrap();
    let refused = take(cloud, who, full).await.unwrap_err();
    assert_eq!(refused, exceeded(Limit::PendingSnapshotsPerVolume, 5));
    for _ in 5..QUOTAS.pending_snapshots {
        take(cloud, who, other).await.unwrap();
    }
    api::delete(cloud, who, made[1]).await.unwrap();
    let limit = exceeded(Limit::PendingSnapshots, QUOTAS.pending_snapshots);
    assert_eq!(take(cloud, who, third).await.unwrap_err(), limit);
}

#[tokio::test]
async fn an_account_has_so_many_snapshots() {
    let rig = cloud().await;
    let of = volume(&rig).await;
    for _ in 0..QUOTAS.snapshots {
        take(&rig.cloud, &rig.who, of).await.unwrap();
        all_taken(&rig).await;
    }
    let refused = take(&rig.cloud, &rig.who, of).await.unwrap_err();
    assert_eq!(refused, exceeded(Limit::Snapshots, QUOTAS.snapshots));
}

#[tokio::test]
async fn two_do_not_share_the_last_one_that_may_be_under_way() {
    let rig = cloud().await;
    let both = async |one: VolumeId, other: VolumeId| {
        rig.overlap(
            async |cloud| take(cloud, &rig.who, one).await,
            async |cloud| take(cloud, &rig.who, other).await,
        )
        .await
    };
    let (full, other, third) = (volume(&rig).await, volume(&rig).await, volume(&rig).await);
    for _ in 1..5 {
        take(&rig.cloud, &rig.who, full).await.unwrap();
    }
    let (first, second) = both(full, full).await;
    first.unwrap();
    assert_eq!(second.unwrap_err(), exceeded(Limit::PendingSnapshotsPerVolume, 5));
    for _ in 5..QUOTAS.pending_snapshots - 1 {
        take(&rig.cloud, &rig.who, other).await.unwrap();
    }
    let (first, second) = both(other, third).await;
    first.unwrap();
    let full = exceeded(Limit::PendingSnapshots, QUOTAS.pending_snapshots);
    assert_eq!(second.unwrap_err(), full);
}

/// Some accounts.
fn to(accounts: std::ops::Range<u64>) -> Grantees {
    Grantees {
        all: false,
        accounts: accounts.map(|n| AccountId(200_000_000_000 + n)).collect(),
    }
}

fn adding(accounts: std::ops::Range<u64>) -> Sharing {
    Sharing {
        add: to(accounts),
        remove: Grantees::default(),
    }
}

#[tokio::test]
async fn a_snapshot_is_shared_with_so_many_accounts() {
    let rig = cloud().await;
    let id = take(&rig.cloud, &rig.who, volume(&rig).await).await.unwrap();
    let share = async |change: Sharing| api::share(&rig.cloud, &rig.who, id, change).await;
    let max = QUOTAS.accounts_per_snapshot;
    let full = exceeded(Limit::AccountsPerSnapshot, max);
    assert_eq!(share(adding(0..max + 1)).await.unwrap_err(), full);
    share(adding(1..max)).await.unwrap();
    // Two of the last.
    let (first, second) = rig
        .overlap(
            async |cloud| api::share(cloud, &rig.who, id, adding(0..1)).await,
            async |cloud| api::share(cloud, &rig.who, id, adding(max..max + 1)).await,
        )
        .await;
    first.unwrap();
    assert_eq!(second.unwrap_err(), full);
    // Those that have it need no room, and one that goes makes some; nor does everybody, or its owner.
    share(adding(0..max)).await.unwrap();
    let mut change = Sharing {
        add: to(max..max + 1),
        remove: to(0..1),
    };
    change.add.all = true;
    change.add.accounts.insert(rig.who.account);
    share(change).await.unwrap();
    let found = api::grantees(&rig.cloud, &rig.who, id).await.unwrap();
    assert_eq!((found.all, found.accounts), (true, to(1..max + 1).accounts));
}

#[tokio::test]
async fn an_image_is_shared_with_so_many_accounts() {
    let rig = cloud().await;
    let share = async |change: Sharing| {
        let change = ImageChange::Launchers(change);
        images::modify(&rig.cloud, &rig.who, rig.image, change).await
    };
    let max = QUOTAS.accounts_per_image;
    share(adding(0..max)).await.unwrap();
    let refused = share(adding(max..max + 1)).await.unwrap_err();
    assert_eq!(refused, exceeded(Limit::AccountsPerImage, max));
    let found = images::attributes(&rig.cloud, &rig.who, rig.image).await.unwrap();
    assert_eq!(found.launchers.accounts, to(0..max).accounts);
}

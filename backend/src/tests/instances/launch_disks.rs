//! Disks of launches: what an image and a request come to, what is refused, and quotas.

use cumulet_compute::instances::{
    AttributeChange, DiskChange, InstanceView, LaunchSpec, launch, modify_attribute,
};
use cumulet_domain::{
    Error, ResourceKind,
    error::Limit,
    id::{InstanceId, SnapshotId, VolumeId},
    instance::State,
    snapshot::SnapshotState,
    tag::Tag,
    volume::{AttachmentState, Mapped, Mapping, Provisioned, ROOT_DEVICE, VolumeChange, VolumeType},
};
use cumulet_store::{
    entity::{
        columns::{Count, Device, Flag, Key, Named, Owner},
        image, image_mapping, snapshot, tag, volume,
    },
    failed,
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, sea_query::Expr};

use crate::{
    api::volumes,
    test_support::{QUOTAS, Rig, cloud, volume as mapped},
    tests::instances::{launched, seen},
};

impl Rig {
    /// A snapshot of so many GiB that has been taken, of an account.
    async fn snapshot_of(&self, owner: cumulet_domain::account::AccountId, gib: u32) -> SnapshotId {
        let id = self.cloud.rng.id::<cumulet_domain::id::marker::Snapshot>();
        let row = snapshot::Model {
            id: Key(id),
            account: Owner(owner),
            volume: Key::from_db(1),
            size_gib: Count(gib),
            state: Named(SnapshotState::Completed),
            state_message: None,
            description: String::new(),
            encrypted: Flag(false),
            public: Flag(false),
            manifest: Some("a".repeat(64)),
            base: None,
            bytes: None,
            host: None,
            created_at: 1,
            completed_at: Some(1),
            deleted_at: None,
            data_key: None,
            progress: None,
        };
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let insert = snapshot::Entity::insert(snapshot::ActiveModel::from(row));
                insert.exec_without_returning(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
        id
    }

    /// The image is made of snapshots: a root of 2 GiB, and a disk at /dev/sdf that outlives its instance.
    async fn image_of(&self, root: SnapshotId, data: SnapshotId) {
        let of = |device: &str, snapshot, delete_on_termination| image_mapping::Model {
            image: Key(self.image),
            device: Device(device.into()),
            snapshot: Some(Key(snapshot)),
            size_gib: Some(Count(2)),
            volume_type: Named(VolumeType::Gp3),
            iops: None,
            throughput: Some(Count(200)),
            delete_on_termination: Flag(delete_on_termination),
            encrypted: None,
        };
        let (rows, id) = (
            [of(ROOT_DEVICE, root, true), of("/dev/sdf", data, false)],
            self.image.to_db(),
        );
        let write = self.cloud.store.write(move |txn| {
            let rows = rows.clone();
            Box::pin(async move {
                let insert = image_mapping::Entity::insert_many(rows.map(image_mapping::ActiveModel::from));
                insert.exec_without_returning(txn).await.map_err(failed)?;
                let update = image::Entity::update_many()
                    .col_expr(image::Column::Manifest, Expr::value("a".repeat(64)))
                    .filter(image::Column::Id.eq(id));
                update.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    async fn with(&self, mappings: Vec<Mapping>) -> Result<InstanceView, Error> {
        let mut spec = self.spec();
        spec.mappings = mappings;
        let made = launch(&self.cloud, &self.who, spec).await?;
        Ok(made.instances[0].as_ref().clone())
    }

    async fn volumes(&self) -> Vec<volume::Model> {
        let all = volume::Entity::find().filter(volume::Column::Image.is_null());
        all.all(self.cloud.store.read()).await.unwrap()
    }
}

/// The devices of an instance, and which of them end with it.
fn disks(view: &InstanceView) -> Vec<(&str, bool)> {
    let disks = view.disks.iter();
    disks
        .map(|disk| (disk.device.as_str(), disk.delete_on_termination))
        .collect()
}

#[tokio::test]
async fn an_instance_has_what_its_image_says_and_what_its_launch_says_of_it() {
    let rig = cloud().await;
    let owner = rig.stranger.account;
    let (root, data) = (rig.snapshot_of(owner, 2).await, rig.snapshot_of(owner, 2).await);
    rig.image_of(root, data).await;
    let nothing = Mapping {
        device: "/dev/sdf".into(),
        content: Mapped::Nothing,
    };
    let other = rig.snapshot_of(rig.who.account, 5).await;
    for (mappings, expected) in [
        (vec![], vec![(ROOT_DEVICE, true), ("/dev/sdf", false)]),
        (vec![nothing], vec![(ROOT_DEVICE, true)]),
        (
            vec![mapped("/dev/sdf", |disk| disk.delete_on_termination = Some(true))],
            vec![(ROOT_DEVICE, true), ("/dev/sdf", true)],
        ),
        (
            vec![
                mapped("/dev/sdb", |disk| disk.snapshot = Some(other)),
                mapped(ROOT_DEVICE, |disk| disk.snapshot = Some(root)),
            ],
            vec![(ROOT_DEVICE, true), ("/dev/sdb", true), ("/dev/sdf", false)],
        ),
    ] {
        let view = rig.with(mappings).await.unwrap();
        assert_eq!(disks(&view), expected);
        assert_eq!(seen(&rig, view.id()).await, view, "the answer is what is found");
        assert!(
            view.disks[1..]
                .iter()
                .all(|disk| disk.state == AttachmentState::Attaching)
        );
    }
    let all = rig.volumes().await;
    let of = |snapshot| all.iter().filter(move |row| row.snapshot == Some(Key(snapshot)));
    assert_eq!((of(data).count(), of(other).count()), (3, 1));
    assert!(of(data).all(|row| row.throughput == Some(Count(200)) && row.size_gib == Count(2)));
    assert!(of(other).all(|row| row.size_gib == Count(5) && row.volume_type.0 == VolumeType::Gp2));
    let roots = volume::Entity::find().filter(volume::Column::Image.is_not_null());
    let roots = roots.all(rig.cloud.store.read()).await.unwrap();
    assert!(roots.iter().all(|row| row.throughput == Some(Count(200))));
}

#[tokio::test]
async fn what_disks_can_not_be_is_refused_and_nothing_is_made() {
    let rig = cloud().await;
    let mine = rig.snapshot_of(rig.who.account, 4).await;
    let theirs = rig.snapshot_of(rig.stranger.account, 4).await;
    let small = Error::InvalidMapping {
        reason: format!("Volume of size 3GB is smaller than snapshot '{mine}', expect size >= 4GB"),
    };
    let missing = Error::NotFound {
        kind: ResourceKind::Snapshot,
        id: theirs.to_string(),
    };
    let size =
        |value: &str, reason: &str| Error::invalid("BlockDeviceMapping.1.Ebs.VolumeSize", value, reason);
    let combination = |reason: &str| Error::InvalidCombination {
        reason: reason.into(),
    };
    let unsupported = |what: &str| Error::Unsupported { what: what.into() };
    let iops = |count| Provisioned {
        iops: Some(count),
        throughput: None,
    };
    for (mapping, expected) in [
        (
            mapped("/dev/sdf", |disk| {
                (disk.snapshot, disk.size_gib) = (Some(mine), Some(3));
            }),
            small,
        ),
        (mapped("/dev/sdf", |disk| disk.snapshot = Some(theirs)), missing),
        (
            mapped("/dev/sdf", |disk| disk.size_gib = Some(0)),
            size("0", "volume of 0GiB is too small; minimum is 1GiB"),
        ),
        (
            mapped("/dev/sdf", |disk| {
                (disk.size_gib, disk.kind) = (Some(1), Some(VolumeType::St1));
            }),
            size("1", "volume of 1GiB is too small; minimum is 125GiB"),
        ),
        (
            mapped("/dev/sdf", |disk| {
                (disk.size_gib, disk.provisioned) = (Some(10), iops(3000));
            }),
            combination("The parameter iops is not supported for gp2 volumes."),
        ),
        (
            mapped("/dev/sdf", |disk| {
                (disk.size_gib, disk.kind) = (Some(10), Some(VolumeType::Io1));
            }),
            combination("The parameter iops must be specified for io1 volumes."),
        ),
        (
            mapped(ROOT_DEVICE, |disk| {
                (disk.size_gib, disk.kind) = (Some(4), Some(VolumeType::Io2));
            }),
            combination("The parameter iops must be specified for io2 volumes."),
        ),
        (
            mapped(ROOT_DEVICE, |disk| disk.size_gib = Some(1)),
            Error::VolumeTooSmall { gib: 1, least: 2 },
        ),
        (
            mapped(ROOT_DEVICE, |disk| disk.snapshot = Some(mine)),
            unsupported("a root disk of another snapshot than its image's"),
        ),
    ] {
        assert_eq!(
            rig.with(vec![mapping.clone()]).await.unwrap_err(),
            expected,
            "{mapping:?}"
        );
    }
    assert!(rig.volumes().await.is_empty());
    assert_eq!(rig.account().await.instances_used, 0);
}

#[tokio::test]
async fn a_root_that_outlives_its_instance_counts_for_the_quotas() {
    let rig = cloud().await;
    let with = |min, max, gib| {
        let mut spec: LaunchSpec = rig.spec();
        (spec.min, spec.max) = (min, max);
        spec.mappings = vec![mapped(ROOT_DEVICE, |disk| {
            (disk.size_gib, disk.delete_on_termination) = (Some(gib), Some(false));
        })];
        launch(&rig.cloud, &rig.who, spec)
    };
    let max = QUOTAS.volume_gib;
    let full = Error::LimitExceeded {
        limit: Limit::VolumeStorage,
        max,
    };
    let most = u32::try_from(max).unwrap() / 2 - 1;
    assert_eq!(with(3, 3, most).await.unwrap_err(), full);
    let made = with(1, 3, most).await.unwrap();
    assert_eq!(made.instances.len(), 2, "as many as fit");
    assert_eq!(with(1, 1, 4).await.unwrap_err(), full);
    let other = launched(&rig, rig.spec()).await;
    rig.settle(other.id(), State::Running).await;
    let change = |kept: bool, device: &str| {
        AttributeChange::Disk(DiskChange {
            device: device.into(),
            volume: None,
            delete_on_termination: !kept,
        })
    };
    let modify = async |id, kept| modify_attribute(&rig.cloud, &rig.who, id, change(kept, ROOT_DEVICE)).await;
    // Two GiB are left, and that is what it has.
    modify(other.id(), true).await.unwrap();
    let more = launched(&rig, rig.spec()).await;
    rig.settle(more.id(), State::Running).await;
    assert_eq!(modify(more.id(), true).await.unwrap_err(), full);
    modify(other.id(), false).await.unwrap();
    modify(more.id(), true).await.unwrap();
    // Nor can one grow beyond them that may: the other goes with its instance.
    let larger = VolumeChange {
        size_gib: Some(3),
        ..VolumeChange::default()
    };
    let grow = async |id: InstanceId| {
        let root = VolumeId::from_db(id.to_db());
        volumes::modify(&rig.cloud, &rig.who, root, larger)
            .await
            .map(drop)
    };
    assert_eq!(grow(more.id()).await.unwrap_err(), full);
    grow(other.id()).await.unwrap();
}

#[tokio::test]
async fn volumes_count_for_the_quotas_and_as_many_instances_as_fit_are_made() {
    let rig = cloud().await;
    let with = |min, max, gib| {
        let mut spec: LaunchSpec = rig.spec();
        (spec.min, spec.max) = (min, max);
        spec.mappings = ["/dev/sdf", "/dev/sdg"]
            .map(|device| mapped(device, |disk| disk.size_gib = Some(gib)))
            .to_vec();
        launch(&rig.cloud, &rig.who, spec)
    };
    assert_eq!(
        with(31, 31, 1).await.unwrap_err(),
        Error::LimitExceeded {
            limit: Limit::Volumes,
            max: QUOTAS.volumes
        }
    );
    assert_eq!(
        with(2, 2, 16_384).await.unwrap_err(),
        Error::LimitExceeded {
            limit: Limit::VolumeStorage,
            max: QUOTAS.volume_gib
        }
    );
    assert_eq!(with(1, 40, 1).await.unwrap().instances.len(), 30);
    let made = rig.volumes().await;
    assert_eq!(made.len(), 60, "each instance has its own");
    assert!(with(1, 1, 1).await.is_err());
}

#[tokio::test]
async fn tags_of_volumes_are_all_volumes_and_count_for_the_quota() {
    let rig = cloud().await;
    let spec = |max, tags: usize| {
        let mut spec = rig.spec();
        spec.max = max;
        let tag = |n| Tag {
            key: format!("k{n}"),
            value: String::new(),
        };
        spec.tags.volume = (0..tags).map(tag).collect();
        spec.mappings = vec![mapped("/dev/sdf", |disk| disk.size_gib = Some(1))];
        spec
    };
    launched(&rig, spec(2, 3)).await;
    let kept = tag::Entity::find().count(rig.cloud.store.read()).await.unwrap();
    assert_eq!(kept, 2 * 2 * 3);
    let refused = launch(&rig.cloud, &rig.who, spec(8, 50)).await;
    assert!(matches!(
        refused,
        Err(Error::LimitExceeded {
            limit: Limit::Tags,
            ..
        })
    ));
}

#[tokio::test]
async fn whether_a_volume_ends_with_its_instance_may_be_said_later() {
    let rig = cloud().await;
    let view = rig
        .with(vec![mapped("/dev/sdf", |disk| disk.size_gib = Some(1))])
        .await
        .unwrap();
    rig.settle(view.id(), State::Running).await;
    let volume = view.disks[1].volume;
    for (device, of, value, expected) in [
        ("/dev/sdf", None, false, Ok(false)),
        ("/dev/sdf", Some(volume), true, Ok(true)),
        ("/dev/sdf", Some(volume), false, Ok(false)),
        (ROOT_DEVICE, None, false, Ok(false)),
        (ROOT_DEVICE, None, true, Ok(true)),
        (
            "/dev/sdf",
            Some(view.disks[0].volume),
            true,
            Err(Error::NoDevice {
                device: "/dev/sdf".into(),
            }),
        ),
        (
            "/dev/sdg",
            None,
            true,
            Err(Error::NoDevice {
                device: "/dev/sdg".into(),
            }),
        ),
    ] {
        let change = AttributeChange::Disk(DiskChange {
            device: device.into(),
            volume: of,
            delete_on_termination: value,
        });
        let done = modify_attribute(&rig.cloud, &rig.who, view.id(), change).await;
        let disks = seen(&rig, view.id()).await.disks;
        let shown = disks.iter().find(|disk| disk.device == device);
        let shown = shown.is_some_and(|disk| disk.delete_on_termination);
        assert_eq!(done.map(|()| shown), expected, "{device} {of:?} {value}");
    }
}

//! Calls about volumes, up to what they write.

use cumulet_compute::instances;
use cumulet_core::{ClientToken, PageRequest, tags};
use cumulet_domain::{
    Error,
    error::Limit,
    id::{InstanceId, VolumeId},
    instance::State,
    tag::Tag,
    volume::{AttachmentState, MAX_ATTACHED, Provisioned, VolumeState, VolumeType},
};
use cumulet_store::{
    entity::{instance, volume},
    failed,
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use crate::{
    api::volumes::*,
    test_support::{Rig, ZONE, cloud, pages},
};

fn new(gib: u32) -> NewVolume {
    NewVolume {
        availability_zone: ZONE.into(),
        size_gib: Some(gib),
        snapshot: None,
        kind: VolumeType::Gp3,
        provisioned: Provisioned::default(),
        encryption: Default::default(),
        tags: Vec::new(),
        client_token: None,
    }
}

impl Rig {
    async fn volume(&self) -> VolumeId {
        create(&self.cloud, &self.who, new(1)).await.unwrap().id()
    }

    /// An instance in a state, on a host.
    async fn instance(&self, state: State) -> InstanceId {
        let launched = instances::launch(&self.cloud, &self.who, self.spec())
            .await
            .unwrap();
        let id = launched.instances[0].id();
        self.settle(id, state).await;
        let since = (state == State::Running).then(|| self.cloud.now().0);
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let on = instance::Entity::update_many()
                    .col_expr(instance::Column::Host, Expr::value("host-1"))
                    .col_expr(instance::Column::RunningSince, Expr::value(since))
                    .filter(instance::Column::Id.eq(id.to_db()));
                on.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
        id
    }

    /// Changes a volume's row behind everybody's back.
    async fn change(&self, id: VolumeId, column: volume::Column, value: &'static str) {
        let write = self.cloud.store.write(move |txn| {
            Box::pin(async move {
                let update = volume::Entity::update_many()
                    .col_expr(column, Expr::value(value))
                    .filter(volume::Column::Id.eq(id.to_db()));
                update.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    async fn all(&self, query: &VolumeQuery) -> cumulet_domain::Result<Vec<VolumeView>> {
        let page = describe(&self.cloud, &self.who, query, PageRequest::default()).await;
        page.map(|page| page.rows)
    }

    async fn one(&self, id: VolumeId) -> VolumeView {
        let query = VolumeQuery {
            ids: vec![id],
            ..VolumeQuery::default()
        };
        self.all(&query).await.unwrap().remove(0)
    }

    async fn attach(&self, volume: VolumeId, to: InstanceId, device: &str) -> Result<AttachmentView, Error> {
        attach(&self.cloud, &self.who, volume, to, device).await
    }

    async fn detach(&self, volume: VolumeId) -> Result<AttachmentView, Error> {
        self.detach_from(volume, None, None).await
    }

    async fn detach_from(
        &self,
        volume: VolumeId,
        instance: Option<InstanceId>,
        device: Option<&str>,
    ) -> Result<AttachmentView, Error> {
        let what = Detach {
            volume,
            instance,
            device: device.map(str::to_owned),
        };
        detach(&self.cloud, &self.who, what).await
    }
}

#[tokio::test]
async fn volumes_are_made_seen_by_their_account_and_deleted() {
    let rig = cloud().await;
    let tag = Tag {
        key: "a".into(),
        value: "b".into(),
    };
    let wanted = NewVolume {
        provisioned: Provisioned {
            iops: Some(4000),
            throughput: Some(200),
        },
        tags: vec![tag.clone()],
        ..new(8)
    };
    let made = create(&rig.cloud, &rig.who, wanted).await.unwrap();
    assert_eq!(rig.one(made.id()).await, made);
    assert_eq!(made.tags, [tag]);
    let launched = instances::launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    let of = VolumeQuery {
        instances: vec![launched.instances[0].id()],
        ..VolumeQuery::default()
    };
    let roots = rig.all(&of).await.unwrap();
    assert_eq!((roots.len(), roots[0].row.state.0), (1, VolumeState::InUse));
    assert_eq!(rig.all(&VolumeQuery::default()).await.unwrap().len(), 2);
    let any = VolumeQuery::default();
    let theirs = describe(&rig.cloud, &rig.stranger, &any, PageRequest::default()).await;
    assert_eq!(theirs.unwrap().rows, []);
    for gone in [
        delete(&rig.cloud, &rig.stranger, made.id()).await,
        delete(&rig.cloud, &rig.who, VolumeId::new(7)).await,
    ] {
        assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    }
    delete(&rig.cloud, &rig.who, made.id()).await.unwrap();
    let again = delete(&rig.cloud, &rig.who, made.id()).await;
    assert!(matches!(again, Err(Error::NotFound { .. })), "{again:?}");
    let query = VolumeQuery {
        ids: vec![made.id(), VolumeId::new(9)],
        ..VolumeQuery::default()
    };
    let Err(Error::NotFound { id, .. }) = rig.all(&query).await else {
        panic!("it is there")
    };
    assert_eq!(id, format!("{}, {}", made.id(), VolumeId::new(9)));
}

#[tokio::test]
async fn pages_meet() {
    let rig = cloud().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(rig.volume().await);
    }
    made.sort_unstable_by_key(|id| id.to_db());
    let list = async |page| describe(&rig.cloud, &rig.who, &VolumeQuery::default(), page).await;
    let found = pages(2, list).await;
    let seen: Vec<VolumeId> = found.iter().flatten().map(VolumeView::id).collect();
    assert_eq!(seen, made);
}

#[tokio::test]
async fn a_token_makes_one_volume() {
    let rig = cloud().await;
    let token = |hash: &str| NewVolume {
        client_token: Some(ClientToken {
            token: "t".into(),
            request_hash: hash.into(),
        }),
        ..new(1)
    };
    let made = create(&rig.cloud, &rig.who, token("a")).await.unwrap();
    assert_eq!(create(&rig.cloud, &rig.who, token("a")).await.unwrap(), made);
    let other = create(&rig.cloud, &rig.who, token("b")).await;
    assert!(
        matches!(other, Err(Error::IdempotentParameterMismatch { .. })),
        "{other:?}"
    );
    assert_ne!(
        create(&rig.cloud, &rig.stranger, token("b")).await.unwrap().id(),
        made.id()
    );
    assert_eq!(rig.all(&VolumeQuery::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_can_not_be_a_volume_is_refused() {
    let rig = cloud().await;
    let elsewhere = NewVolume {
        availability_zone: "us-east-1z".into(),
        ..new(1)
    };
    let name = "us-east-1z".to_owned();
    assert_eq!(
        create(&rig.cloud, &rig.who, elsewhere).await.unwrap_err(),
        Error::NoZone { name }
    );
    for gib in [0, 65_537] {
        let refused = create(&rig.cloud, &rig.who, new(gib)).await;
        assert!(
            matches!(refused, Err(Error::InvalidParameter { .. })),
            "{refused:?}"
        );
    }
    let refused = create(&rig.cloud, &rig.reader(), new(1)).await;
    assert!(matches!(refused, Err(Error::Unauthorized { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_account_has_so_many_volumes_and_so_much_in_them() {
    let rig = cloud().await;
    let refused = create(&rig.cloud, &rig.who, new(51_201)).await.unwrap_err();
    let (limit, max) = (Limit::VolumeStorage, crate::test_support::QUOTAS.volume_gib);
    assert_eq!(refused, Error::LimitExceeded { limit, max });
    let large = create(&rig.cloud, &rig.who, new(51_195)).await.unwrap();
    for _ in 0..5 {
        rig.volume().await;
    }
    let refused = create(&rig.cloud, &rig.who, new(1)).await.unwrap_err();
    assert_eq!(refused, Error::LimitExceeded { limit, max });
    create(&rig.cloud, &rig.stranger, new(1)).await.unwrap();
    delete(&rig.cloud, &rig.who, large.id()).await.unwrap();
    // Those that instances start from are not counted.
    instances::launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    for _ in 5..crate::test_support::QUOTAS.volumes {
        rig.volume().await;
    }
    let refused = create(&rig.cloud, &rig.who, new(1)).await.unwrap_err();
    let (limit, max) = (Limit::Volumes, crate::test_support::QUOTAS.volumes);
    assert_eq!(refused, Error::LimitExceeded { limit, max });
}

#[tokio::test]
async fn a_volume_is_attached_where_it_can_be() {
    let rig = cloud().await;
    let id = rig.instance(State::Running).await;
    let (i, ours) = (id.to_string(), rig.volume().await);
    let vol = ours.to_string();
    let device = || "/dev/sdf".to_owned();
    for bad in ["", "/dev/sda", "xyz", "/dev/sdf1"] {
        let refused = rig.attach(ours, id, bad).await.unwrap_err();
        assert_eq!(refused, Error::NoDeviceName { device: bad.into() });
    }
    for (volume, instance) in [(VolumeId::new(7), id), (ours, InstanceId::new(7))] {
        let refused = rig.attach(volume, instance, "/dev/sdf").await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }
    let refused = attach(&rig.cloud, &rig.stranger, ours, id, "/dev/sdf").await;
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    for state in [State::Pending, State::Stopping, State::ShuttingDown] {
        let other = rig.instance(state).await;
        let instance = other.to_string();
        let refused = rig.attach(ours, other, "/dev/sdf").await;
        assert_eq!(refused.unwrap_err(), Error::NotRunning { instance }, "{state:?}");
    }
    rig.change(ours, volume::Column::AvailabilityZone, "us-east-1b")
        .await;
    let refused = rig.attach(ours, id, "/dev/sdf").await.unwrap_err();
    let (volume, instance) = (vol.clone(), i.clone());
    assert_eq!(refused, Error::ZoneMismatch { volume, instance });
    rig.change(ours, volume::Column::AvailabilityZone, ZONE).await;
    rig.change(ours, volume::Column::Host, "host-9").await;
    let refused = rig.attach(ours, id, "/dev/sdf").await.unwrap_err();
    let (volume, instance) = (vol.clone(), i.clone());
    assert_eq!(refused, Error::DataElsewhere { volume, instance });
    rig.change(ours, volume::Column::Host, "host-1").await;
    let made = rig.attach(ours, id, "/dev/sdf").await.unwrap();
    assert_eq!(
        (made.device.clone(), made.state),
        (device(), AttachmentState::Attaching)
    );
    let view = rig.one(ours).await;
    assert_eq!(
        (view.row.state.0, view.attachment),
        (VolumeState::InUse, Some(made))
    );
    let refused = rig.attach(ours, id, "/dev/sdg").await.unwrap_err();
    assert_eq!(refused, Error::AlreadyAttached { volume: vol.clone() });
    let refused = rig.attach(rig.volume().await, id, "/dev/sdf").await.unwrap_err();
    assert_eq!(refused, Error::DeviceInUse { device: device() });
    let used = delete(&rig.cloud, &rig.who, ours).await.unwrap_err();
    assert!(
        matches!(&used, Error::InUse { id, by, .. } if *id == vol && *by == i),
        "{used:?}"
    );
    // Instances show it.
    let shown = instances::get(&rig.cloud, &rig.who, id).await.unwrap();
    assert_eq!(shown.disks.len(), 2);
    assert_eq!(
        (shown.disks[1].volume, shown.disks[1].device.clone()),
        (ours, device())
    );
}

#[tokio::test]
async fn an_instance_has_so_many_volumes_whether_it_runs_or_not() {
    let rig = cloud().await;
    for state in [State::Running, State::Stopped] {
        let id = rig.instance(state).await;
        // Its root is one of them.
        for n in 1..MAX_ATTACHED {
            let letters = [n / 26, n % 26].map(|n| char::from(b'a' + u8::try_from(n).unwrap()));
            let device = format!("/dev/xvd{}{}", letters[0], letters[1]);
            let attached = rig.attach(rig.volume().await, id, &device).await.unwrap();
            assert_eq!(attached.device, device);
        }
        let refused = rig.attach(rig.volume().await, id, "/dev/sdf").await;
        let full = Error::LimitExceeded {
            limit: Limit::VolumesPerInstance,
            max: MAX_ATTACHED as u64,
        };
        assert_eq!(refused.unwrap_err(), full, "{state:?}");
    }
}

#[tokio::test]
async fn a_volume_is_detached_from_where_it_is() {
    let rig = cloud().await;
    let (id, other) = (
        rig.instance(State::Running).await,
        rig.instance(State::Running).await,
    );
    let volume = rig.volume().await;
    let free = rig.detach(volume).await.unwrap_err();
    assert!(
        matches!(&free, Error::IncorrectState { state, .. } if state == "available"),
        "{free:?}"
    );
    rig.attach(volume, id, "/dev/sdf").await.unwrap();
    for (instance, device) in [
        (Some(other), None),
        (Some(other), Some("/dev/sdf")),
        (Some(id), Some("/dev/sdg")),
        (None, Some("sdf")),
    ] {
        let wrong = rig.detach_from(volume, instance, device).await;
        assert!(matches!(wrong, Err(Error::NotAttached { .. })), "{wrong:?}");
    }
    let nobodys = rig.detach_from(volume, Some(InstanceId::new(7)), None).await;
    assert!(matches!(nobodys, Err(Error::NotFound { .. })), "{nobodys:?}");
    let root = instances::get(&rig.cloud, &rig.who, id).await.unwrap().disks[0].volume;
    let refused = rig.detach(root).await.unwrap_err();
    let (volume_id, instance) = (root.to_string(), id.to_string());
    assert_eq!(
        refused,
        Error::RootVolume {
            volume: volume_id,
            instance
        }
    );
    let ending = rig.detach_from(volume, Some(id), Some("/dev/sdf")).await.unwrap();
    assert_eq!(ending.state, AttachmentState::Detaching);
    let again = rig.detach(volume).await.unwrap_err();
    assert!(
        matches!(&again, Error::IncorrectState { state, .. } if state == "detaching"),
        "{again:?}"
    );
    let theirs = Detach {
        volume,
        instance: None,
        device: None,
    };
    let refused = detach(&rig.cloud, &rig.stranger, theirs).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
}

#[tokio::test]
async fn volumes_have_tags_until_they_are_gone() {
    let rig = cloud().await;
    let id = rig.volume().await;
    let tag = Tag {
        key: "k".into(),
        value: "v".into(),
    };
    tags::create(
        &rig.cloud,
        &rig.who,
        &[tags::TagTarget::of(id)],
        std::slice::from_ref(&tag),
    )
    .await
    .unwrap();
    assert_eq!(rig.one(id).await.tags, [tag]);
    delete(&rig.cloud, &rig.who, id).await.unwrap();
    let left = tags::describe(
        &rig.cloud,
        &rig.who,
        &tags::TagQuery::default(),
        PageRequest::default(),
    )
    .await;
    assert_eq!(left.unwrap().rows, []);
}

/// One of two at once has it, and the other one is told so, or asks again.
#[tokio::test]
async fn of_two_at_once_one_is_done() {
    let rig = cloud().await;
    let (a, b) = (
        rig.instance(State::Running).await,
        rig.instance(State::Running).await,
    );
    // Two instances want the same volume.
    let volume = rig.volume().await;
    let (one, other) = rig
        .overlap(
            async |cloud| attach(cloud, &rig.who, volume, a, "/dev/sdf").await,
            async |cloud| attach(cloud, &rig.who, volume, b, "/dev/sdf").await,
        )
        .await;
    one.unwrap();
    let volume_id = volume.to_string();
    assert_eq!(other.unwrap_err(), Error::AlreadyAttached { volume: volume_id });
    // Two volumes want the same device.
    let (c, d) = (rig.volume().await, rig.volume().await);
    let (one, other) = rig
        .overlap(
            async |cloud| attach(cloud, &rig.who, c, a, "/dev/sdg").await,
            async |cloud| attach(cloud, &rig.who, d, a, "/dev/sdg").await,
        )
        .await;
    one.unwrap();
    let device = "/dev/sdg".to_owned();
    assert_eq!(other.unwrap_err(), Error::DeviceInUse { device });
    // An attach and a delete.
    let (one, other) = rig
        .overlap(
            async |cloud| attach(cloud, &rig.who, d, b, "/dev/sdg").await,
            async |cloud| delete(cloud, &rig.who, d).await,
        )
        .await;
    one.unwrap();
    assert!(matches!(other, Err(Error::InUse { .. })), "{other:?}");
    let e = rig.volume().await;
    let (one, other) = rig
        .overlap(
            async |cloud| delete(cloud, &rig.who, e).await,
            async |cloud| attach(cloud, &rig.who, e, b, "/dev/sdh").await,
        )
        .await;
    one.unwrap();
    assert!(matches!(other, Err(Error::NotFound { .. })), "{other:?}");
    // An attach, and the end of the instance.
    let f = rig.volume().await;
    let (one, other) = rig
        .overlap(
            async |cloud| instances::terminate(cloud, &rig.who, &[b]).await,
            async |cloud| attach(cloud, &rig.who, f, b, "/dev/sdh").await,
        )
        .await;
    one.unwrap();
    let instance = b.to_string();
    assert_eq!(other.unwrap_err(), Error::NotRunning { instance });
}

/// The last of an account's volumes is made once.
#[tokio::test]
async fn two_do_not_share_the_last_room() {
    let rig = cloud().await;
    for _ in 1..crate::test_support::QUOTAS.volumes {
        rig.volume().await;
    }
    let (one, other) = rig
        .overlap(
            async |cloud| create(cloud, &rig.who, new(1)).await,
            async |cloud| create(cloud, &rig.who, new(1)).await,
        )
        .await;
    one.unwrap();
    assert!(matches!(other, Err(Error::LimitExceeded { .. })), "{other:?}");
}

//! Images that are made of instances, with hosts that the test plays.

use std::collections::BTreeSet;

use cumulet_domain::{
    Error,
    id::{ImageId, InstanceId, SnapshotId},
    image::ImageState,
    instance::State,
    snapshot::SnapshotState,
    spec::DiskSource,
    volume::{DiskAsked, VolumeType},
};
use cumulet_store::{
    consistency::Hanging,
    entity::{columns::Named, image, instance},
    failed,
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{Instances, snapshots::taken};
use crate::{
    api::{
        PageRequest,
        images::{self as api, AskedDisk, CreatedImage, Deleted, ImageQuery, ImageView},
        instances::{self, LaunchSpec},
        snapshots,
    },
    store::images::NOTHING,
};

fn of(instance: InstanceId, name: &str) -> CreatedImage {
    CreatedImage {
        instance,
        name: name.into(),
        description: "words".into(),
        no_reboot: true,
        disks: Vec::new(),
        tags: Vec::new(),
        snapshot_tags: Vec::new(),
    }
}

impl Instances {
    pub(super) async fn image(&self, id: ImageId) -> ImageView {
        let query = ImageQuery {
            ids: vec![id],
            ..ImageQuery::default()
        };
        let page = api::describe(&self.rig.cloud, &self.rig.who, &query, PageRequest::default()).await;
        page.unwrap().rows.remove(0)
    }

    async fn phase(&self, id: ImageId, phase: Option<ImageState>) {
        let write = self.conductor.store.write(move |txn| {
            Box::pin(async move {
                let update = image::Entity::update_many()
                    .col_expr(image::Column::Phase, Expr::value(phase.map(Named)))
                    .filter(image::Column::Id.eq(id.to_db()));
                update.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    async fn create(&self, new: CreatedImage) -> Result<ImageId, Error> {
        api::create(&self.rig.cloud, &self.rig.who, new).await
    }

    /// The snapshots of an image are taken, or can't be.
    pub(super) async fn settled(&self, id: ImageId, failure: Option<&str>) -> Vec<SnapshotId> {
        let view = self.image(id).await;
        assert_eq!(view.row.state(), ImageState::Pending);
        let theirs: Vec<SnapshotId> = view
            .disks
            .iter()
            .filter_map(|disk| Some(disk.snapshot?.0))
            .collect();
        let mut open = None;
        for each in &theirs {
            open = open.or(self.taking(*each).await);
        }
        self.round().await;
        let host = self.kept(theirs[0]).await.host.unwrap();
        let all = match failure {
            None => taken(theirs.clone()),
            Some(_) => Vec::new(),
        };
        self.taken(&host, &open.unwrap(), all, failure.map(|words| (words, true)))
            .await;
        theirs
    }

    async fn findings(&self) -> Vec<String> {
        use sea_orm::EntityTrait as _;
        let conn = self.rig.cloud.store.read();
        let instances = instance::Entity::find().all(conn).await.unwrap();
        let hanging = Hanging::load(conn).await.unwrap();
        let mut found = hanging.findings(&instances, &[]);
        found.retain(|finding| finding.contains("ami-"));
        found
    }
}

#[tokio::test]
async fn an_image_of_an_instance_waits_for_its_snapshots_and_is_launched_from_them() {
    let mut on = Instances::new().await;
    let (volume, instance) = on.attached().await;
    let id = on.create(of(instance, "made")).await.unwrap();
    let view = on.image(id).await;
    assert_eq!((view.row.state(), view.disks.len()), (ImageState::Pending, 2));
    assert_eq!(
        (view.row.source_instance.unwrap().0, view.row.manifest),
        (instance, None)
    );
    let spec = LaunchSpec::new(id, "t3.nano");
    let refused = instances::launch(&on.rig.cloud, &on.rig.who, spec.clone()).await;
    assert!(matches!(refused, Err(Error::Unusable { state, .. }) if state == "pending"));

    let theirs = on.settled(id, None).await;
    let view = on.image(id).await;
    assert_eq!(view.row.state(), ImageState::Available);
    let root = view.disks.iter().find(|disk| disk.device == view.row.root_device);
    let root = root.unwrap().snapshot.unwrap().0;
    let kept = on.kept(root).await;
    assert_eq!(view.row.manifest, kept.manifest);
    assert_eq!(
        kept.description,
        format!("Created by CreateImage({instance}) for {id}")
    );
    assert_eq!(view.row.virtual_bytes.0, u64::from(kept.size_gib.0) << 30);
    assert!(on.kept(theirs[1]).await.volume.0 == volume || on.kept(theirs[0]).await.volume.0 == volume);
    assert_eq!(on.findings().await, Vec::<String>::new());

    // One that waits for nothing is told of.
    on.phase(id, Some(ImageState::Pending)).await;
    let told = on.findings().await;
    assert!(
        told.len() == 1 && told[0].contains("none of them is being taken"),
        "{told:?}"
    );
    on.phase(id, None).await;

    // None of them can be deleted while the image has them.
    for snapshot in &theirs {
        let refused = snapshots::delete(&on.rig.cloud, &on.rig.who, *snapshot).await;
        assert!(matches!(refused, Err(Error::InUse { by, .. }) if by == id.to_string()));
    }
    let launched = instances::launch(&on.rig.cloud, &on.rig.who, spec).await.unwrap();
    let made = launched.instances[0].id();
    let disks = on.rig.cloud.store.read();
    let disks = cumulet_store::attachments::of_instance(disks, made.to_db())
        .await
        .unwrap();
    let theirs = disks.iter().find(|disk| disk.is_root()).unwrap();
    assert_eq!(disks.len(), 2);
    let volume = on.disk(theirs.volume.0).await;
    assert_eq!(volume.snapshot.map(|snapshot| snapshot.0), Some(root));

    // With the image they go; what the instance is made of stays needed.
    let ended = api::deregister(&on.rig.cloud, &on.rig.who, id, true)
        .await
        .unwrap();
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|(_, became)| *became == Deleted::Done));
    let needed = cumulet_store::snapshots::needed(on.rig.cloud.store.read())
        .await
        .unwrap();
    let data = *ended.iter().map(|(id, _)| id).find(|id| **id != root).unwrap();
    let of_both = [kept.manifest.clone(), on.kept(data).await.manifest];
    assert_eq!(needed.manifests, of_both.into_iter().flatten().collect());
    on.round().await;
    let spec = on.started().await.expect("a host is told");
    assert_eq!(spec.id, made);
    let DiskSource::Image(image) = &spec.disks[0].source else {
        panic!("{:?}", spec.disks[0]);
    };
    assert_eq!(
        (image.from_snapshot, Some(&image.sha256)),
        (true, kept.manifest.as_ref())
    );
}

#[tokio::test]
async fn what_an_image_waits_for_goes_with_the_image_alone() {
    let on = Instances::new().await;
    let (_, instance) = on.attached().await;
    let id = on.create(of(instance, "made")).await.unwrap();
    let disks = on.image(id).await.disks;
    let theirs: Vec<SnapshotId> = disks.iter().filter_map(|disk| Some(disk.snapshot?.0)).collect();
    assert_eq!(theirs.len(), 2);
    on.round().await;
    for snapshot in &theirs {
        let refused = snapshots::delete(&on.rig.cloud, &on.rig.who, *snapshot).await;
        assert!(matches!(refused, Err(Error::InUse { by, .. }) if by == id.to_string()));
        assert_eq!(on.kept(*snapshot).await.state.0, SnapshotState::Pending);
    }
    let (open, host) = (
        on.taking(theirs[0]).await.unwrap(),
        on.kept(theirs[0]).await.host.unwrap(),
    );
    let ended = api::deregister(&on.rig.cloud, &on.rig.who, id, true)
        .await
        .unwrap();
    let done: BTreeSet<SnapshotId> = ended
        .iter()
        .filter(|(_, became)| *became == Deleted::Done)
        .map(|(snapshot, _)| *snapshot)
        .collect();
    assert_eq!(done, theirs.iter().copied().collect());
    on.taken(&host, &open, taken(theirs.clone()), None).await;
    for snapshot in theirs {
        let row = on.kept(snapshot).await;
        assert_eq!(row.state.0, SnapshotState::Completed);
        assert!(row.deleted_at.is_some() && on.taking(snapshot).await.is_none());
    }
    assert_eq!(on.findings().await, Vec::<String>::new());
}

#[tokio::test]
async fn an_image_whose_snapshots_can_not_be_taken_has_failed() {
    let on = Instances::new().await;
    let (_, instance) = on.attached().await;
    let id = on.create(of(instance, "made")).await.unwrap();
    on.settled(id, Some("the disk is gone")).await;
    let row = on.image(id).await.row;
    assert_eq!((row.state(), row.manifest), (ImageState::Failed, None));
    assert!(row.phase_reason.unwrap().contains("the disk is gone"));
    let again = on.create(of(instance, "made")).await;
    assert!(matches!(again, Err(Error::ImageNameTaken { by, .. }) if by == id.to_string()));
    api::deregister(&on.rig.cloud, &on.rig.who, id, false)
        .await
        .unwrap();
    on.create(of(instance, "made")).await.unwrap();
}

#[tokio::test]
async fn a_disk_is_left_out_changed_or_added() {
    let on = Instances::new().await;
    let (_, instance) = on.attached().await;
    let root = on.rig.image;
    let root = on.image(root).await.row.root_device.0;
    let asked = |device: &str, wanted: Option<DiskAsked>| AskedDisk {
        device: device.into(),
        wanted,
    };
    let sized = |gib| {
        Some(DiskAsked {
            size_gib: Some(gib),
            ..DiskAsked::default()
        })
    };
    let with = |name: &str, disks: Vec<AskedDisk>| CreatedImage {
        disks,
        ..of(instance, name)
    };
    let changed = DiskAsked {
        kind: Some(VolumeType::Gp2),
        delete_on_termination: Some(false),
        ..sized(40).unwrap()
    };
    let disks = vec![
        asked("/dev/sdf", None),
        asked(&root, Some(changed)),
        asked("/dev/sdg", sized(7)),
    ];
    let id = on.create(with("made", disks)).await.unwrap();
    let view = on.image(id).await;
    let found = view.disks.iter().map(|disk| {
        let size = disk.size_gib.unwrap().0;
        (
            disk.device.0.as_str(),
            size,
            disk.volume_type.0,
            disk.snapshot.is_some(),
            disk.delete_on_termination.0,
        )
    });
    let found: Vec<_> = found.collect();
    assert_eq!(
        found,
        [
            ("/dev/sdg", 7, VolumeType::Gp2, false, true),
            (root.as_str(), 40, VolumeType::Gp2, true, false),
        ]
    );
    assert_eq!(view.row.virtual_bytes.0, 40 << 30);

    for disks in [
        vec![asked(&root, None)],
        vec![asked(&root, sized(1))],
        vec![asked("/dev/sdg", Some(DiskAsked::default()))],
        vec![asked("/dev/sdg", sized(1)), asked("/dev/sdg", sized(2))],
    ] {
        let refused = on.create(with("other", disks.clone())).await;
        assert!(
            matches!(refused, Err(Error::InvalidMapping { .. })),
            "{disks:?} {refused:?}"
        );
    }
    let named = on.create(with("other", vec![asked("nonsense", sized(1))])).await;
    assert!(matches!(named, Err(Error::NoDeviceName { .. })), "{named:?}");
}

#[tokio::test]
async fn what_an_instance_does_decides_how_its_image_is_made() {
    let on = Instances::new().await;
    let stopped = on.stopped().await;
    let mut new = of(stopped, "stopped");
    new.no_reboot = false;
    on.create(new).await.unwrap();
    let running = on.running().await;
    on.create(of(running, "goes on")).await.unwrap();
    let mut new = of(running, "goes off");
    new.no_reboot = false;
    let made = on.create(new.clone()).await.unwrap();
    assert_eq!(on.open(running).await.kind, "create-image");
    // It is off for one image at a time; one that asks for no reboot is made all the same.
    new.name = "goes off again".into();
    let refused = on.create(new).await;
    assert!(
        matches!(refused, Err(Error::IncorrectState { .. })),
        "{refused:?}"
    );
    on.create(of(running, "goes on again")).await.unwrap();
    on.round().await;
    on.end(running, Ok(())).await;
    on.round().await;
    on.settled(made, None).await;
    assert_eq!(on.image(made).await.row.state(), ImageState::Available);
    assert_eq!(on.open(running).await.kind, "run-again");
    let fresh = on.launched().await;
    let refused = on.create(of(fresh, "fresh")).await;
    assert!(matches!(refused, Err(Error::IncorrectState { state, .. }) if state == State::Pending.name()));
}

#[tokio::test]
async fn a_copy_outlives_what_it_was_made_of() {
    let on = Instances::new().await;
    let (_, instance) = on.attached().await;
    let id = on.create(of(instance, "made")).await.unwrap();
    on.settled(id, None).await;
    let what = api::ImageCopy {
        source: id,
        name: "copy".into(),
        description: String::new(),
        copy_tags: false,
        encryption: Default::default(),
        tags: Vec::new(),
        snapshot_tags: Vec::new(),
        client_token: None,
    };
    let copy = api::copy(&on.rig.cloud, &on.rig.who, what.clone()).await.unwrap();
    let (source, copied) = (on.image(id).await, on.image(copy).await);
    assert_eq!(
        (copied.row.state(), copied.row.source_image.unwrap().0),
        (ImageState::Available, id)
    );
    assert_eq!(copied.row.manifest, source.row.manifest);
    assert!(
        source
            .disks
            .iter()
            .zip(&copied.disks)
            .all(|(a, b)| a.snapshot != b.snapshot && a.device == b.device)
    );
    // Another account may launch it and may not read it.
    let sharing = api::Sharing {
        add: api::Grantees {
            all: false,
            accounts: [on.rig.stranger.account].into(),
        },
        ..api::Sharing::default()
    };
    let change = api::ImageChange::Launchers(sharing);
    api::modify(&on.rig.cloud, &on.rig.who, id, change).await.unwrap();
    let refused = api::copy(&on.rig.cloud, &on.rig.stranger, what).await;
    assert!(matches!(refused, Err(Error::ImageStorage { .. })), "{refused:?}");
    let theirs = instances::launch(&on.rig.cloud, &on.rig.stranger, LaunchSpec::new(id, "t3.nano")).await;
    assert_eq!(theirs.unwrap().instances.len(), 1);

    let ended = api::deregister(&on.rig.cloud, &on.rig.who, id, true)
        .await
        .unwrap();
    assert!(
        ended.iter().all(|(_, became)| *became == Deleted::Done),
        "{ended:?}"
    );
    assert_eq!(on.findings().await, Vec::<String>::new());
    let spec = LaunchSpec::new(copy, "t3.nano");
    instances::launch(&on.rig.cloud, &on.rig.who, spec).await.unwrap();
}

#[tokio::test]
async fn an_image_of_a_disk_that_nobody_has_made_is_of_nothing() {
    let on = Instances::new().await;
    let id = on.made().await;
    let (snapshot, _) = on.snapshot(id).await;
    on.round().await;
    assert_eq!(on.kept(snapshot).await.manifest, None);
    let new = api::Registration {
        name: "nothing".into(),
        description: String::new(),
        architecture: None,
        boot_mode: None,
        imds_v2: true,
        root_device: None,
        disks: vec![AskedDisk {
            device: "/dev/sda1".into(),
            wanted: Some(DiskAsked {
                snapshot: Some(snapshot),
                ..DiskAsked::default()
            }),
        }],
        tags: Vec::new(),
    };
    let image = api::register(&on.rig.cloud, &on.rig.who, new).await.unwrap();
    assert_eq!(on.image(image).await.row.manifest.as_deref(), Some(NOTHING));
    // And it asks for tokens.
    let spec = LaunchSpec::new(image, "t3.nano");
    let launched = instances::launch(&on.rig.cloud, &on.rig.who, spec).await.unwrap();
    let row = on.row(launched.instances[0].id().to_db()).await;
    assert_eq!((row.http_tokens_required.0, row.http_hop_limit.0), (true, 2));
}

//! Plain data that a host encrypts: for a copy, and for a snapshot of an encrypted volume that no host has made.

use std::time::Duration;

use cumulet_certs::HostKey;
use cumulet_domain::{
    Result,
    id::{ImageId, SnapshotId, VolumeId},
    image::ImageState,
    message::{Action, Command, KeyOf, SnapshotSource},
    snapshot::{NO_VOLUME, SnapshotState, TakenSnapshot},
    volume::{EncryptionAsked, Provisioned, VolumeStore, VolumeType},
};
use cumulet_store::{disk_keys, encryption::findings, entity::host, failed, snapshots as store};
use futures::FutureExt as _;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{Instances, snapshots::taken};
use crate::{
    api::{
        images,
        snapshots::{self as api, Copy},
        volumes::{self, NewVolume},
    },
    test_support::ZONE,
};

const ENCRYPTED: EncryptionAsked = EncryptionAsked {
    encrypted: Some(true),
    key: None,
};

impl Instances {
    /// A host has a key pair, and is heard of.
    pub(super) async fn able(&self, name: &'static str) -> HostKey {
        let key = self.rig.cloud.rng.with(HostKey::generate);
        let (public, now) = (key.public().to_string(), self.rig.cloud.now());
        let write = self.conductor.store.write(move |txn| {
            Box::pin(async move {
                let told = host::Entity::update_many()
                    .col_expr(host::Column::DiskKey, Expr::value(public))
                    .col_expr(host::Column::LastSeen, Expr::value(now.0))
                    .filter(host::Column::Id.eq(name));
                told.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
        key
    }

    async fn encrypted_copy(&self, source: SnapshotId) -> SnapshotId {
        let what = Copy {
            source,
            description: String::new(),
            encryption: ENCRYPTED,
            tags: Vec::new(),
        };
        let made = api::copy(&self.rig.cloud, &self.rig.who, what).await;
        made.unwrap().id()
    }

    /// An encrypted volume that is to be made of a snapshot.
    pub(super) async fn encrypted_volume(&self, of: SnapshotId) -> VolumeId {
        let new = NewVolume {
            availability_zone: ZONE.into(),
            size_gib: None,
            snapshot: Some(of),
            kind: VolumeType::Gp3,
            provisioned: Provisioned::default(),
            encryption: ENCRYPTED,
            tags: Vec::new(),
            client_token: None,
        };
        let made = volumes::create(&self.rig.cloud, &self.rig.who, new).await;
        made.unwrap().id()
    }

    /// The command to take snapshots that was sent last, and to which host.
    pub(super) async fn takes(&mut self) -> Option<(&'static str, Command)> {
        let mut last = None;
        for (name, mailbox) in ["host-1", "host-2"].into_iter().zip(&mut self.mailboxes) {
            while let Some(Some(delivery)) = mailbox.next().now_or_never() {
                let cumulet_bus::Delivery::Command(command) = delivery else {
                    continue;
                };
                if matches!(command.action, Action::TakeSnapshots(_)) {
                    last = Some((name, Command::clone(&command)));
                }
                command.ack();
            }
        }
        last
    }

    /// Some time goes by, and the engine does what is due.
    async fn goes_by(&self, seconds: u64) {
        self.rig.pass(Duration::from_secs(seconds));
        self.round().await;
    }

    pub(super) async fn needed(&self) -> Vec<String> {
        let needed = store::needed(self.conductor.store.read()).await.unwrap();
        needed.manifests.into_iter().collect()
    }

    async fn delete(&self, id: SnapshotId) -> Result<()> {
        api::delete(&self.rig.cloud, &self.rig.who, id).await
    }

    async fn data(&self, id: SnapshotId) -> String {
        self.kept(id).await.manifest.unwrap()
    }
}

/// What a host is told of a snapshot that is to be made of that manifest.
fn made_of(snapshot: SnapshotId, volume: VolumeId, manifest: &str) -> SnapshotSource {
    SnapshotSource {
        store: VolumeStore::Local,
        snapshot,
        volume,
        root_of: None,
        base: None,
        encrypted: true,
        of: Some(manifest.to_owned()),
    }
}

fn sources(command: &Command) -> &[SnapshotSource] {
    match &command.action {
        Action::TakeSnapshots(sources) => sources,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_copy_waits_for_a_host_with_a_key_and_outlives_its_source() {
    let mut on = Instances::new().await;
    let (volume, _) = on.attached().await;
    let source = on.complete(volume).await;
    let plain = on.data(source).await;
    let copy = on.encrypted_copy(source).await;
    let row = on.kept(copy).await;
    assert_eq!((row.state.0, &row.manifest), (SnapshotState::Pending, &None));
    assert!(row.encrypted.0 && row.data_key.is_some() && row.completed_at.is_none());
    on.round().await;
    assert_eq!(on.takes().await, None, "no host has told a key");
    // Its data is needed all the same.
    on.delete(source).await.unwrap();
    assert_eq!(on.needed().await, vec![plain.clone()]);

    let key = on.able("host-2").await;
    on.goes_by(2).await;
    let (host, command) = on.takes().await.expect("one that has a key is told");
    assert_eq!((host, command.version()), ("host-2", 4));
    assert_eq!(sources(&command), [made_of(copy, NO_VOLUME, &plain)]);
    let [sealed] = command.keys.as_slice() else {
        panic!("{:?}", command.keys);
    };
    assert_eq!(sealed.of, KeyOf::Snapshot(copy));
    let kept = row.data_key.unwrap();
    let expected = disk_keys::open(&on.rig.cloud.sealer, copy, &kept).unwrap();
    assert_eq!(key.open(&copy.to_string(), &sealed.sealed).unwrap(), expected);

    let open = on.taking(copy).await.unwrap();
    on.taken("host-1", &open, taken([copy]), None).await;
    assert_eq!(on.kept(copy).await.state.0, SnapshotState::Pending);
    for _ in 0..2 {
        on.taken("host-2", &open, taken([copy]), None).await;
        let row = on.kept(copy).await;
        assert_eq!((row.state.0, row.base), (SnapshotState::Completed, None));
    }
    assert_eq!(on.needed().await, [on.data(copy).await]);
    assert!(on.taking(copy).await.is_none());
    assert_eq!(findings(on.conductor.store.read()).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_host_that_fails_or_falls_silent_gives_way_to_another() {
    let mut on = Instances::new().await;
    let (volume, _) = on.attached().await;
    let source = on.complete(volume).await;
    let plain = on.data(source).await;
    let copy = on.encrypted_copy(source).await;
    let both = async |on: &Instances| (on.able("host-1").await, on.able("host-2").await);
    both(&on).await;
    on.round().await;
    let (first, _) = on.takes().await.unwrap();
    // It is told again and again, and nobody else.
    both(&on).await;
    on.goes_by(20).await;
    assert!(on.takes().await.is_none_or(|(again, _)| again == first));
    on.goes_by(20).await;
    assert_eq!(
        on.kept(copy).await.host.as_deref(),
        Some(first),
        "nobody is heard of"
    );
    let other = if first == "host-1" { "host-2" } else { "host-1" };
    on.able(other).await;
    on.goes_by(25).await;
    let (second, command) = on.takes().await.unwrap();
    assert_eq!((second, sources(&command).len()), (other, 1));

    let open = on.taking(copy).await.unwrap();
    let mut told = vec![second];
    for _ in 0..5 {
        assert_eq!(on.needed().await, vec![plain.clone()]);
        let now = *told.last().unwrap();
        let failure = Some(("the store is full", false));
        on.taken(now, &open, Vec::new(), failure).await;
        on.rig.pass(Duration::from_secs(60));
        both(&on).await;
        on.round().await;
        if let Some((host, command)) = on.takes().await {
            assert_eq!(sources(&command), [made_of(copy, NO_VOLUME, &plain)]);
            told.push(host);
        }
    }
    assert_eq!(told.len(), 5);
    assert!(told.contains(&first), "{told:?}");
    let row = on.kept(copy).await;
    assert_eq!((row.state.0, row.base), (SnapshotState::Error, None));
    assert!(row.state_message.unwrap().contains("the store is full"));
    on.delete(copy).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_of_an_encrypted_volume_that_nobody_has_made_is_encrypted() {
    let mut on = Instances::new().await;
    let (volume, _) = on.attached().await;
    let source = on.complete(volume).await;
    let plain = on.data(source).await;
    on.able("host-1").await;
    let unmade = on.encrypted_volume(source).await;
    let (id, open) = on.snapshot(unmade).await;
    volumes::delete(&on.rig.cloud, &on.rig.who, unmade).await.unwrap();
    on.delete(source).await.unwrap();
    on.round().await;
    let (host, command) = on.takes().await.unwrap();
    assert_eq!(sources(&command), [made_of(id, unmade, &plain)]);
    assert_eq!((host, command.keys[0].of), ("host-1", KeyOf::Snapshot(id)));
    assert_eq!(on.needed().await, [plain]);
    on.taken(host, &open, taken([id]), None).await;
    let row = on.kept(id).await;
    assert_eq!((row.state.0, row.encrypted.0), (SnapshotState::Completed, true));
    assert_eq!(on.needed().await, [on.data(id).await]);
    assert_eq!(findings(on.conductor.store.read()).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn one_whose_volume_is_made_first_is_taken_of_the_volume() {
    let mut on = Instances::new().await;
    let (volume, instance) = on.attached().await;
    let source = on.complete(volume).await;
    let made = on.encrypted_volume(source).await;
    let (id, _) = on.snapshot(made).await;
    on.round().await;
    assert_eq!(on.takes().await, None);
    on.able("host-1").await;
    on.able("host-2").await;
    let open = on.attach(made, instance, "/dev/sdg").await;
    on.goes_by(2).await;
    assert_eq!(on.takes().await, None, "it is being made");
    on.report(&open, None).await;
    on.goes_by(2).await;
    let (_, command) = on.takes().await.unwrap();
    let expected = SnapshotSource {
        store: VolumeStore::Local,
        of: None,
        ..made_of(id, made, "")
    };
    assert_eq!(sources(&command), [expected]);
    assert_eq!(command.keys[0].of, KeyOf::Volume(made));
}

#[tokio::test]
async fn a_copy_of_an_image_is_there_when_its_data_is_encrypted() {
    for failure in [None, Some("the store is gone")] {
        let mut on = Instances::new().await;
        let (volume, _) = on.attached().await;
        let source = on.complete(volume).await;
        let new = images::Registration {
            name: "plain".into(),
            description: String::new(),
            architecture: None,
            boot_mode: None,
            imds_v2: false,
            root_device: None,
            disks: vec![images::AskedDisk {
                device: "/dev/sda1".into(),
                wanted: Some(cumulet_domain::volume::DiskAsked {
                    snapshot: Some(source),
                    ..Default::default()
                }),
            }],
            tags: Vec::new(),
        };
        let (cloud, who) = (on.rig.cloud.clone(), on.rig.who.clone());
        let image = images::register(&cloud, &who, new).await.unwrap();
        let what = images::ImageCopy {
            source: image,
            name: "encrypted".into(),
            description: String::new(),
            copy_tags: false,
            encryption: ENCRYPTED,
            tags: Vec::new(),
            snapshot_tags: Vec::new(),
            client_token: None,
        };
        let copy: ImageId = images::copy(&cloud, &who, what).await.unwrap();
        let view = on.image(copy).await;
        assert_eq!(
            (view.row.state(), &view.row.manifest),
            (ImageState::Pending, &None)
        );
        assert!(view.row.encrypted.unwrap().0 && view.disks[0].encrypted.unwrap().0);
        on.able("host-1").await;
        on.round().await;
        assert!(on.takes().await.is_some());
        let theirs = on.settled(copy, failure).await;
        let view = on.image(copy).await;
        match failure {
            None => {
                assert_eq!(view.row.state(), ImageState::Available);
                assert_eq!(view.row.manifest, Some(on.data(theirs[0]).await));
            }
            Some(_) => assert_eq!(view.row.state(), ImageState::Failed),
        }
        let conn = on.conductor.store.read();
        assert_eq!(cumulet_store::images::findings(conn).await.unwrap(), [""; 0]);
    }
}

/// The plain data goes when nothing but the encrypted needs it, and not before.
#[tokio::test]
async fn the_room_of_a_deleted_source_comes_back_when_its_copy_is_done() {
    let mut on = Instances::new().await;
    let dir = tempfile::tempdir().unwrap();
    let files = api::SnapshotStore::open(&dir.path().join("snapshots")).unwrap();
    let disk = dir.path().join("disk");
    std::fs::write(&disk, vec![7; 4096]).unwrap();
    let plain = files.take_file(&disk, None, None).unwrap().manifest;
    let stored = |id, manifest: String| TakenSnapshot {
        id,
        manifest,
        fresh_bytes: 1,
        bytes: 1,
    };
    let (volume, _) = on.attached().await;
    let (source, open) = on.snapshot(volume).await;
    on.round().await;
    let told = on.kept(source).await.host.unwrap();
    on.taken(&told, &open, vec![stored(source, plain.to_string())], None)
        .await;
    let copy = on.encrypted_copy(source).await;
    on.delete(source).await.unwrap();
    let cloud = on.rig.cloud.store.clone();
    let clock = cumulet_domain::time::SystemClock;
    let later = cumulet_domain::time::Clock::now(&clock).after(Duration::from_secs(3600));
    let sweep = async || api::sweep(&cloud, &files, later).await.unwrap();
    assert_eq!(sweep().await, api::Swept::default());

    on.able("host-1").await;
    on.round().await;
    let (host, command) = on.takes().await.unwrap();
    assert_eq!(sources(&command)[0].of, Some(plain.to_string()));
    // What a host makes of it is other data in any case.
    std::fs::write(&disk, vec![8; 4096]).unwrap();
    let made = files.take_file(&disk, None, None).unwrap().manifest;
    let open = on.taking(copy).await.unwrap();
    on.taken(host, &open, vec![stored(copy, made.to_string())], None)
        .await;
    let swept = sweep().await;
    assert_eq!((swept.manifests, swept.segments), (1, 1));
    let restored = dir.path().join("restored");
    assert!(files.restore_file(plain, None, &restored, 0).is_err());
    files.restore_file(made, None, &restored, 0).unwrap();
    assert_eq!(std::fs::read(&restored).unwrap(), [8; 4096]);
}

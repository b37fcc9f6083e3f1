//! The operation on snapshots, with hosts that the test plays.

use cumulet_domain::{
    Error,
    id::{HostId, InstanceId, SnapshotId, VolumeId},
    image::DiskFormat,
    message::{Action, ReportContent, SnapshotOutcome, SnapshotSource},
    snapshot::{SnapshotRef, SnapshotState, TakenSnapshot},
    spec::DiskSource,
    volume::{Provisioned, VolumeStore, VolumeType},
};
use cumulet_journal::active;
use cumulet_operations::{Heard, snapshot as subject_of};
use cumulet_store::{
    entity::{operation, snapshot},
    failed, snapshots as store,
};
use futures::FutureExt as _;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::Instances;
use crate::{
    api::{
        instances,
        snapshots::{self as api, NewSnapshot, NewSnapshots},
        volumes::{self, NewVolume},
    },
    test_support::ZONE,
};

/// The manifest that the host of the tests takes of a snapshot.
pub(super) fn manifest(id: SnapshotId) -> String {
    format!("{:064x}", id.number())
}

pub(super) fn taken(ids: impl IntoIterator<Item = SnapshotId>) -> Vec<TakenSnapshot> {
    let each = ids.into_iter().map(|id| TakenSnapshot {
        id,
        manifest: manifest(id),
        fresh_bytes: 1,
        bytes: 7,
    });
    each.collect()
}

impl Instances {
    /// A snapshot that is being taken of a volume.
    pub(super) async fn snapshot(&self, volume: VolumeId) -> (SnapshotId, operation::Model) {
        let new = NewSnapshot {
            volume,
            description: "d".into(),
            tags: Vec::new(),
        };
        let made = api::create(&self.rig.cloud, &self.rig.who, new).await.unwrap();
        (made.id(), self.taking(made.id()).await.unwrap())
    }

    /// The operation that takes a snapshot.
    pub(super) async fn taking(&self, id: SnapshotId) -> Option<operation::Model> {
        let open = active(self.conductor.store.read(), subject_of::subject(id.to_db())).await;
        open.unwrap()
    }

    pub(super) async fn kept(&self, id: SnapshotId) -> snapshot::Model {
        let mut found = store::load(self.conductor.store.read(), &[id.to_db()])
            .await
            .unwrap();
        found.pop().unwrap()
    }

    /// What hosts were told last to take.
    pub(super) async fn told_to_take(&mut self) -> Option<Vec<SnapshotSource>> {
        self.told_of_data().await.0
    }

    /// And how many volumes to delete.
    pub(super) async fn told_of_data(&mut self) -> (Option<Vec<SnapshotSource>>, usize) {
        let (mut last, mut deleted) = (None, 0);
        for mailbox in &mut self.mailboxes {
            while let Some(Some(delivery)) = mailbox.next().now_or_never() {
                let cumulet_bus::Delivery::Command(command) = delivery else {
                    continue;
                };
                match &command.action {
                    Action::TakeSnapshots(sources) => last = Some(sources.clone()),
                    Action::DeleteVolume { .. } => deleted += 1,
                    _ => {}
                }
                command.ack();
            }
        }
        (last, deleted)
    }

    /// A host answers.
    pub(super) async fn taken(
        &self,
        host: &str,
        open: &operation::Model,
        taken: Vec<TakenSnapshot>,
        failure: Option<(&str, bool)>,
    ) {
        let outcome = SnapshotOutcome {
            operation: open.id.0,
            taken,
            failure: failure.map(|(words, _)| words.to_owned()),
            permanent: failure.is_some_and(|(_, permanent)| permanent),
        };
        self.say(host, ReportContent::SnapshotDone(outcome)).await;
    }

    /// A snapshot that was taken of a volume.
    pub(super) async fn complete(&mut self, volume: VolumeId) -> SnapshotId {
        let (id, open) = self.snapshot(volume).await;
        self.round().await;
        let host = self.kept(id).await.host.unwrap();
        self.taken(&host, &open, taken([id]), None).await;
        assert_eq!(self.kept(id).await.state.0, SnapshotState::Completed);
        self.told_to_take().await;
        id
    }

    /// Nobody can read the row of a snapshot any more.
    async fn spoil(&self, id: SnapshotId) {
        let write = self.conductor.store.write(move |txn| {
            Box::pin(async move {
                let lost = snapshot::Entity::update_many()
                    .col_expr(snapshot::Column::State, Expr::value("lost"))
                    .filter(snapshot::Column::Id.eq(id.to_db()));
                lost.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    pub(super) async fn made_of(
        &self,
        snapshot: SnapshotId,
        gib: Option<u32>,
    ) -> cumulet_domain::Result<VolumeId> {
        let new = NewVolume {
            availability_zone: ZONE.into(),
            size_gib: gib,
            snapshot: Some(snapshot),
            kind: VolumeType::Gp3,
            provisioned: Provisioned::default(),
            encryption: Default::default(),
            tags: Vec::new(),
            client_token: None,
        };
        let made = volumes::create(&self.rig.cloud, &self.rig.who, new).await?;
        Ok(made.id())
    }
}

/// What is heard of a snapshot that was taken.
pub(super) fn heard(row: &operation::Model, host: &HostId) -> Heard {
    Heard::Snapshots(
        host.clone(),
        SnapshotOutcome {
            operation: row.id.0,
            taken: taken([SnapshotId::from_db(row.subject().1)]),
            failure: None,
            permanent: false,
        },
    )
}

#[tokio::test]
async fn a_host_takes_what_a_guest_has_and_the_next_is_taken_over_it() {
    let mut on = Instances::new().await;
    let (volume, _) = on.attached().await;
    let (first, open) = on.snapshot(volume).await;
    on.round().await;
    let source = |snapshot, base| SnapshotSource {
        store: VolumeStore::Local,
        snapshot,
        volume,
        root_of: None,
        base,
        encrypted: false,
        of: None,
    };
    assert_eq!(on.told_to_take().await, Some(vec![source(first, None)]));
    let row = on.kept(first).await;
    assert_eq!((row.state.0, row.manifest), (SnapshotState::Pending, None));
    // Somebody else's word counts for nothing.
    let host = row.host.unwrap();
    let other = if host == "host-1" { "host-2" } else { "host-1" };
    on.taken(other, &open, taken([first]), None).await;
    on.taken(&host, &open, taken([SnapshotId::new(9 << 40)]), None)
        .await;
    assert_eq!(on.kept(first).await.state.0, SnapshotState::Pending);

    on.taken(&host, &open, taken([first]), None).await;
    let row = on.kept(first).await;
    assert_eq!(
        (row.state.0, row.manifest, row.bytes.unwrap().0),
        (SnapshotState::Completed, Some(manifest(first)), 7)
    );
    assert!(row.completed_at.is_some() && on.taking(first).await.is_none());

    let (second, _) = on.snapshot(volume).await;
    on.round().await;
    let told = on.told_to_take().await.unwrap();
    assert_eq!(told, [source(second, Some(manifest(first)))]);
    // It is needed for as long as the second is taken over it.
    api::delete(&on.rig.cloud, &on.rig.who, first).await.unwrap();
    let needed = store::needed(on.conductor.store.read()).await.unwrap();
    assert_eq!(needed.manifests, [manifest(first)].into());
    assert!(needed.pending_since.is_some());
}

#[tokio::test]
async fn the_root_is_taken_where_its_instance_is() {
    let mut on = Instances::new().await;
    for running in [true, false] {
        let instance = if running {
            on.running().await
        } else {
            on.stopped().await
        };
        let new = NewSnapshots {
            instance,
            exclude_root: false,
            exclude: Vec::new(),
            description: String::new(),
            tags: Vec::new(),
            copy_tags: false,
        };
        let made = api::create_all(&on.rig.cloud, &on.rig.who, new).await.unwrap();
        assert_eq!(made.len(), 1);
        on.round().await;
        let told = on.told_to_take().await.unwrap();
        assert_eq!((told.len(), told[0].root_of), (1, Some(instance)), "{running}");
        let host = on.kept(made[0].id()).await.host;
        assert_eq!(host, on.row(instance.to_db()).await.host);
    }
}

#[tokio::test]
async fn those_of_one_moment_are_one_command_and_all_or_none() {
    let mut on = Instances::new().await;
    let (volume, instance) = on.attached().await;
    let new = NewSnapshots {
        instance,
        exclude_root: false,
        exclude: Vec::new(),
        description: "both".into(),
        tags: Vec::new(),
        copy_tags: false,
    };
    let made = api::create_all(&on.rig.cloud, &on.rig.who, new.clone())
        .await
        .unwrap();
    let ids: Vec<SnapshotId> = made.iter().map(api::SnapshotView::id).collect();
    assert_eq!(ids.len(), 2);
    on.round().await;
    let told = on.told_to_take().await.unwrap();
    assert_eq!(told.iter().map(|source| source.snapshot).collect::<Vec<_>>(), ids);
    let open = on.taking(ids[1]).await.expect("both are held");
    assert_eq!(open.id, on.taking(ids[0]).await.unwrap().id);
    let host = on.kept(ids[0]).await.host.unwrap();
    on.taken(&host, &open, taken([ids[0]]), None).await;
    assert_eq!(on.kept(ids[0]).await.state.0, SnapshotState::Pending);
    on.taken(&host, &open, taken(ids.clone()), None).await;
    for id in &ids {
        assert_eq!(on.kept(*id).await.state.0, SnapshotState::Completed);
    }
    for (excluded, root, count) in [
        (vec![volume], false, Some(1)),
        (vec![], true, Some(1)),
        (vec![volume], true, None),
    ] {
        let some = NewSnapshots {
            exclude: excluded,
            exclude_root: root,
            ..new.clone()
        };
        let made = api::create_all(&on.rig.cloud, &on.rig.who, some).await;
        assert_eq!(made.ok().map(|made| made.len()), count);
    }
}

#[tokio::test]
async fn what_no_host_has_made_is_complete_at_once() {
    let mut on = Instances::new().await;
    let empty = on.made().await;
    let (id, _) = on.snapshot(empty).await;
    on.round().await;
    let row = on.kept(id).await;
    assert_eq!(
        (row.state.0, row.manifest, row.host),
        (SnapshotState::Completed, None, None)
    );
    assert_eq!(on.told_to_take().await, None);

    let (volume, _) = on.attached().await;
    let first = on.complete(volume).await;
    let unmade = on.made_of(first, Some(4)).await.unwrap();
    let (of_it, _) = on.snapshot(unmade).await;
    on.round().await;
    let row = on.kept(of_it).await;
    assert_eq!(
        (row.state.0, row.manifest, row.bytes.unwrap().0, row.size_gib.0),
        (SnapshotState::Completed, Some(manifest(first)), 7, 4)
    );
    assert_eq!(on.told_to_take().await, None);
}

#[tokio::test]
async fn a_volume_is_made_of_a_snapshot_by_the_first_host_that_gets_it() {
    let mut on = Instances::new().await;
    let (volume, instance) = on.attached().await;
    let snapshot = on.complete(volume).await;
    assert!(matches!(
        on.made_of(snapshot, Some(0)).await,
        Err(Error::InvalidParameter { .. })
    ));
    let made = on.made_of(snapshot, None).await.unwrap();
    let needed = async |on: &Instances| store::needed(on.conductor.store.read()).await.unwrap().manifests;
    // It stays for the volume's sake.
    api::delete(&on.rig.cloud, &on.rig.who, snapshot).await.unwrap();
    assert_eq!(needed(&on).await, [manifest(snapshot)].into());
    assert!(on.made_of(snapshot, None).await.is_err());

    let open = on.attach(made, instance, "/dev/sdg").await;
    on.round().await;
    let mut sources = Vec::new();
    for mailbox in &mut on.mailboxes {
        while let Some(Some(delivery)) = mailbox.next().now_or_never() {
            let cumulet_bus::Delivery::Command(command) = delivery else {
                continue;
            };
            if let Action::Change { spec, .. } = &command.action {
                let disk = spec.disks.iter().find(|disk| disk.volume == made);
                sources.extend(disk.map(|disk| (disk.source.clone(), command.version())));
            }
            command.ack();
        }
    }
    let from = SnapshotRef {
        id: snapshot,
        manifest: manifest(snapshot),
    };
    let (source, version) = sources.pop().unwrap();
    let DiskSource::Volume {
        format: DiskFormat::Raw,
        create: true,
        from: found,
        ..
    } = source
    else {
        panic!("{source:?}");
    };
    assert_eq!(
        (found, version),
        (Some(from), 3),
        "a host of before would make it empty"
    );
    on.report(&open, None).await;
    assert!(on.at_work(made).await.is_none());
    assert_eq!(needed(&on).await, Default::default(), "it has its own data now");
}

#[tokio::test]
async fn what_fails_for_a_while_is_tried_again_and_over_nothing() {
    let mut on = Instances::new().await;
    let (volume, _) = on.attached().await;
    on.complete(volume).await;
    let (id, open) = on.snapshot(volume).await;
    for attempt in 1..=5 {
        on.round().await;
        let host = on.kept(id).await.host.expect("it was told");
        assert!(on.told_to_take().await.is_some(), "{attempt}");
        on.taken(&host, &open, Vec::new(), Some(("the disk is full", false)))
            .await;
        on.rig.pass(std::time::Duration::from_secs(60));
    }
    let row = on.kept(id).await;
    assert_eq!(row.state.0, SnapshotState::Error);
    let message = row.state_message.unwrap();
    assert!(message.contains("the disk is full"), "{message}");
    assert!(on.taking(id).await.is_none());
    // It can be deleted.
    api::delete(&on.rig.cloud, &on.rig.who, id).await.unwrap();
}

#[tokio::test]
async fn what_can_not_be_taken_says_why() {
    let on = Instances::new().await;
    let (volume, _) = on.attached().await;
    let (id, open) = on.snapshot(volume).await;
    on.round().await;
    let host = on.kept(id).await.host.unwrap();
    on.taken(&host, &open, Vec::new(), Some(("the data is rotten", true)))
        .await;
    assert_eq!(on.kept(id).await.state.0, SnapshotState::Error);

    let instance = on.running().await;
    let root = VolumeId::from_db(instance.to_db());
    let (id, _) = on.snapshot(root).await;
    instances::terminate(&on.rig.cloud, &on.rig.who, &[instance])
        .await
        .unwrap();
    on.round().await;
    let row = on.kept(id).await;
    assert_eq!(row.state.0, SnapshotState::Error);
    assert!(row.state_message.unwrap().contains("has ended"));
}

#[tokio::test]
async fn an_instance_that_comes_up_is_waited_for() {
    let mut on = Instances::new().await;
    let instance: InstanceId = on.launched().await;
    let (id, _) = on.snapshot(VolumeId::from_db(instance.to_db())).await;
    on.round().await;
    assert_eq!(on.told_to_take().await, None);
    on.end(instance, Ok(())).await;
    on.rig.pass(std::time::Duration::from_secs(5));
    on.round().await;
    assert_eq!(on.told_to_take().await.unwrap()[0].snapshot, id);
}

/// What a snapshot needs stays on disk, and nothing else.
#[tokio::test]
async fn the_room_of_a_deleted_snapshot_comes_back() {
    let on = Instances::new().await;
    let dir = tempfile::tempdir().unwrap();
    let files = api::SnapshotStore::open(&dir.path().join("snapshots")).unwrap();
    let disk = dir.path().join("disk");
    let (volume, _) = on.attached().await;
    let mut made = Vec::new();
    for content in [1_u8, 2] {
        std::fs::write(&disk, vec![content; 4096]).unwrap();
        let stored = files.take_file(&disk, None, None).unwrap();
        let (id, open) = on.snapshot(volume).await;
        on.round().await;
        let told = on.kept(id).await.host.unwrap();
        let taken = TakenSnapshot {
            id,
            manifest: stored.manifest.to_string(),
            fresh_bytes: stored.fresh,
            bytes: stored.bytes,
        };
        on.taken(&told, &open, vec![taken], None).await;
        made.push((id, stored.manifest));
    }
    let (store, now) = (on.rig.cloud.store.clone(), cumulet_domain::time::SystemClock);
    let later = cumulet_domain::time::Clock::now(&now).after(std::time::Duration::from_secs(3600));
    let sweep = async || api::sweep(&store, &files, later).await.unwrap();
    // The clock of the rig is not the files': what is being taken is of its time.
    assert_eq!(sweep().await, api::Swept::default());
    api::delete(&on.rig.cloud, &on.rig.who, made[0].0).await.unwrap();
    let swept = sweep().await;
    assert_eq!((swept.manifests, swept.segments), (1, 1));
    let restored = dir.path().join("restored");
    assert!(files.restore_file(made[0].1, None, &restored, 0).is_err());
    files.restore_file(made[1].1, None, &restored, 0).unwrap();
    assert_eq!(std::fs::read(&restored).unwrap(), [2; 4096]);
    // A row that can't be read may need anything: then nothing goes.
    api::delete(&on.rig.cloud, &on.rig.who, made[1].0).await.unwrap();
    let (damaged, _) = on.snapshot(volume).await;
    on.spoil(damaged).await;
    assert!(api::sweep(&store, &files, later).await.is_err());
    files.restore_file(made[1].1, None, &restored, 0).unwrap();
}

#[tokio::test]
async fn a_volume_that_is_deleted_waits_for_its_snapshots() {
    let mut on = Instances::new().await;
    let (volume, _) = on.attached().await;
    let open = on.detach(volume).await;
    on.round().await;
    on.report(&open, None).await;
    let (id, taking) = on.snapshot(volume).await;
    volumes::delete(&on.rig.cloud, &on.rig.who, volume).await.unwrap();
    on.round().await;
    let (told, deleted) = on.told_of_data().await;
    assert!(told.is_some() && deleted == 0);
    let deleting = on.at_work(volume).await.expect("it waits");
    let host = on.kept(id).await.host.unwrap();
    on.taken(&host, &taking, taken([id]), None).await;
    assert_eq!(on.kept(id).await.state.0, SnapshotState::Completed);
    on.rig.pass(std::time::Duration::from_secs(5));
    on.round().await;
    assert_eq!(on.told_of_data().await.1, 1);
    on.report(&deleting, None).await;
    assert!(on.at_work(volume).await.is_none());
}

#[tokio::test]
async fn a_snapshot_of_what_nobody_has_made_outlives_the_volume() {
    let mut on = Instances::new().await;
    let (volume, _) = on.attached().await;
    let source = on.complete(volume).await;
    for (unmade, data) in [
        (on.made().await, None),
        (on.made_of(source, None).await.unwrap(), Some(manifest(source))),
    ] {
        let (id, _) = on.snapshot(unmade).await;
        volumes::delete(&on.rig.cloud, &on.rig.who, unmade).await.unwrap();
        on.round().await;
        let row = on.kept(id).await;
        assert_eq!((row.state.0, row.manifest), (SnapshotState::Completed, data));
    }
}

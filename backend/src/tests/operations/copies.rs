//! Copies of volumes, with hosts that the test plays: what they wait for, and what becomes of them and of it.

use cumulet_core::PageRequest;
use cumulet_domain::{
    Error,
    id::{SnapshotId, VolumeId},
    image::DiskFormat,
    message::{Action, SnapshotSource},
    snapshot::{SnapshotRef, SnapshotState},
    spec::DiskSource,
    volume::{EncryptionAsked, Provisioned, VolumeState, VolumeStore, VolumeType},
};
use cumulet_store::{catch_up, consistency::Hanging, disk_keys, entity::volume, snapshots as store};
use futures::FutureExt as _;

use super::{
    Instances,
    snapshots::{manifest, taken},
};
use crate::api::{
    instances,
    snapshots::{self as api, SnapshotQuery},
    volumes::{self, NewCopy},
};

/// A copy as the source is.
fn of(source: VolumeId) -> NewCopy {
    NewCopy {
        source,
        size_gib: None,
        kind: VolumeType::Gp3,
        provisioned: Provisioned::default(),
        encryption: EncryptionAsked::default(),
        tags: Vec::new(),
        client_token: None,
    }
}

impl Instances {
    async fn copy(&self, new: NewCopy) -> cumulet_domain::Result<(VolumeId, SnapshotId)> {
        let made = volumes::copy(&self.rig.cloud, &self.rig.who, new).await?;
        Ok((made.id(), made.row.snapshot.unwrap().0))
    }

    /// The host that was told answers that it has taken a snapshot.
    async fn takes_it(&self, id: SnapshotId) {
        let open = self.taking(id).await.expect("it is being taken");
        let host = self.kept(id).await.host.expect("a host was told");
        self.taken(&host, &open, taken([id]), None).await;
    }

    async fn delete_volume(&self, id: VolumeId) -> cumulet_domain::Result<()> {
        volumes::delete(&self.rig.cloud, &self.rig.who, id).await
    }

    /// Forgets snapshots that were deleted until now; whether this one is left.
    async fn is_kept(&self, id: SnapshotId) -> bool {
        let (store, now) = (self.conductor.store.clone(), self.rig.cloud.now());
        let forget = store.write(move |txn| Box::pin(async move { store::forget(txn, now, 100).await }));
        forget.await.unwrap();
        let found = store::load(store.read(), &[id.to_db()]).await;
        !found.unwrap().is_empty()
    }

    /// What does not hold of rows.
    async fn amiss(&self) -> Vec<String> {
        let hanging = Hanging::load(self.conductor.store.read()).await.unwrap();
        hanging
            .findings(&[], &[])
            .into_iter()
            .filter(|words| words.contains("made of"))
            .collect()
    }
}

#[tokio::test]
async fn a_copy_is_made_of_a_snapshot_that_nobody_sees() {
    let mut on = Instances::new().await;
    let (source, instance) = on.attached().await;
    let larger = NewCopy {
        size_gib: Some(5),
        ..of(source)
    };
    let (copy, hidden) = on.copy(larger).await.unwrap();
    let row = on.disk(copy).await;
    assert_eq!(
        (row.state.0, row.size_gib.0, row.source_volume.map(|id| id.0)),
        (VolumeState::Creating, 5, Some(source))
    );
    // It is not to be used yet.
    let early = volumes::attach(&on.rig.cloud, &on.rig.who, copy, instance, "/dev/sdg").await;
    assert!(
        matches!(early, Err(Error::IncorrectState { ref state, .. }) if state == "creating"),
        "{early:?}"
    );
    assert!(matches!(
        on.copy(of(copy)).await,
        Err(Error::IncorrectState { .. })
    ));

    on.round().await;
    let told = SnapshotSource {
        store: VolumeStore::Local,
        snapshot: hidden,
        volume: source,
        root_of: None,
        base: None,
        encrypted: false,
        of: None,
    };
    assert_eq!(on.told_to_take().await, Some(vec![told]));
    // Nobody sees it, gets it, or deletes it.
    let all = SnapshotQuery::default();
    let seen = api::describe(&on.rig.cloud, &on.rig.who, &all, PageRequest::default()).await;
    assert_eq!(seen.unwrap().rows, []);
    assert!(matches!(
        on.made_of(hidden, None).await,
        Err(Error::NotFound { .. })
    ));
    let gone = api::delete(&on.rig.cloud, &on.rig.who, hidden).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    assert!(on.is_kept(hidden).await);

    assert_eq!(on.amiss().await, [""; 0]);
    on.takes_it(hidden).await;
    assert_eq!(on.state_of(copy).await, VolumeState::Available);
    assert_eq!(on.kept(hidden).await.state.0, SnapshotState::Completed);
    assert_eq!(
        (on.needed().await, on.amiss().await),
        (vec![manifest(hidden)], Vec::new())
    );
    assert!(on.is_kept(hidden).await, "its data is to be the copy's");

    // The first host that gets it makes it, and then it needs nothing.
    let open = on.attach(copy, instance, "/dev/sdg").await;
    on.round().await;
    let from = Some(SnapshotRef {
        id: hidden,
        manifest: manifest(hidden),
    });
    let (format, found) = on.told_of_disk(copy).await.unwrap();
    assert_eq!((format, found), (DiskFormat::Raw, from));
    on.report(&open, None).await;
    assert!(on.at_work(copy).await.is_none());
    assert!(on.needed().await.is_empty() && !on.is_kept(hidden).await);
    // What is taken of it later is not taken over what is gone.
    let (later, _) = on.snapshot(copy).await;
    on.round().await;
    let told = on.told_to_take().await.unwrap();
    assert_eq!((told[0].snapshot, &told[0].base), (later, &None));
}

impl Instances {
    /// How a host was told last to make a volume, and of which snapshot.
    async fn told_of_disk(&mut self, id: VolumeId) -> Option<(DiskFormat, Option<SnapshotRef>)> {
        let mut last = None;
        for mailbox in &mut self.mailboxes {
            while let Some(Some(delivery)) = mailbox.next().now_or_never() {
                let cumulet_bus::Delivery::Command(command) = delivery else {
                    continue;
                };
                if let Action::Change { spec, .. } = &command.action
                    && let Some(disk) = spec.disks.iter().find(|disk| disk.volume == id)
                    && let DiskSource::Volume { format, from, .. } = &disk.source
                {
                    last = Some((*format, from.clone()));
                }
                command.ack();
            }
        }
        last
    }
}

#[tokio::test]
async fn a_copy_is_taken_over_what_is_there_of_its_source() {
    let mut on = Instances::new().await;
    let (source, _) = on.attached().await;
    let first = on.complete(source).await;
    let (_, hidden) = on.copy(of(source)).await.unwrap();
    on.round().await;
    let told = on.told_to_take().await.unwrap();
    assert_eq!(told[0].base, Some(manifest(first)));
    on.takes_it(hidden).await;
    // And nothing is taken over what nobody sees, which goes as soon as its copy is made.
    let (_, _) = on.snapshot(source).await;
    on.round().await;
    let told = on.told_to_take().await.unwrap();
    assert_eq!(told[0].base, Some(manifest(first)));
}

#[tokio::test]
async fn a_copy_that_fails_is_in_error_and_can_be_deleted() {
    let on = Instances::new().await;
    let (source, _) = on.attached().await;
    let (copy, hidden) = on.copy(of(source)).await.unwrap();
    on.round().await;
    let (open, host) = (
        on.taking(hidden).await.unwrap(),
        on.kept(hidden).await.host.unwrap(),
    );
    on.taken(&host, &open, Vec::new(), Some(("the data is rotten", true)))
        .await;
    let row = on.disk(copy).await;
    let why = row.state_message.unwrap();
    assert_eq!(row.state.0, VolumeState::Error);
    assert!(why.contains("the data is rotten"), "{why}");
    assert_eq!(on.amiss().await, [""; 0]);
    assert!(matches!(
        on.copy(of(copy)).await,
        Err(Error::IncorrectState { .. })
    ));
    assert!(on.is_kept(hidden).await);
    on.delete_volume(copy).await.unwrap();
    assert_eq!(on.state_of(copy).await, VolumeState::Deleted);
    assert!(!on.is_kept(hidden).await);
}

#[tokio::test]
async fn a_copy_that_is_deleted_meanwhile_stays_so_and_its_snapshot_is_kept_until_its_host_has_answered() {
    let mut on = Instances::new().await;
    let (source, _) = on.attached().await;
    let first = on.complete(source).await;
    let (copy, hidden) = on.copy(of(source)).await.unwrap();
    on.round().await;
    on.delete_volume(copy).await.unwrap();
    assert_eq!(on.state_of(copy).await, VolumeState::Deleted);
    // A host writes it over this.
    api::delete(&on.rig.cloud, &on.rig.who, first).await.unwrap();
    assert_eq!(on.needed().await, [manifest(first)]);
    assert!(on.is_kept(hidden).await);
    on.takes_it(hidden).await;
    assert_eq!(on.state_of(copy).await, VolumeState::Deleted);
    assert!(on.needed().await.is_empty() && !on.is_kept(hidden).await);
}

#[tokio::test]
async fn a_source_that_is_deleted_meanwhile_waits_for_its_copies() {
    let mut on = Instances::new().await;
    let (source, _) = on.attached().await;
    let open = on.detach(source).await;
    on.round().await;
    on.report(&open, None).await;
    let (copy, hidden) = on.copy(of(source)).await.unwrap();
    on.delete_volume(source).await.unwrap();
    on.round().await;
    let (told, deleted) = on.told_of_data().await;
    assert!(told.is_some() && deleted == 0);
    let deleting = on.at_work(source).await.expect("it waits");
    on.takes_it(hidden).await;
    assert_eq!(on.state_of(copy).await, VolumeState::Available);
    on.rig.pass(std::time::Duration::from_secs(5));
    on.round().await;
    assert_eq!(on.told_of_data().await.1, 1);
    on.report(&deleting, None).await;
    let row = on.disk(copy).await;
    assert_eq!(
        (row.state.0, row.source_volume.map(|id| id.0)),
        (VolumeState::Available, Some(source))
    );
}

/// What nobody has made has nothing to be copied: the copy is to be made of the same.
#[tokio::test]
async fn a_copy_of_what_no_host_has_made_outlives_it() {
    let mut on = Instances::new().await;
    let (volume, _) = on.attached().await;
    let snapshot = on.complete(volume).await;
    let of_snapshot = on.made_of(snapshot, Some(2)).await.unwrap();
    for (source, data, gib) in [
        (of_snapshot, Some(manifest(snapshot)), 2),
        (on.made().await, None, 1),
    ] {
        let (copy, hidden) = on.copy(of(source)).await.unwrap();
        // All that it is of goes at once.
        on.delete_volume(source).await.unwrap();
        if data.is_some() {
            api::delete(&on.rig.cloud, &on.rig.who, snapshot).await.unwrap();
        }
        let needed: Vec<String> = data.iter().cloned().collect();
        assert_eq!(on.needed().await, needed);
        assert!(data.is_none() || on.is_kept(snapshot).await);
        on.round().await;
        assert_eq!(on.told_to_take().await, None);
        let row = on.disk(copy).await;
        assert_eq!((row.state.0, row.size_gib.0), (VolumeState::Available, gib));
        assert_eq!(on.kept(hidden).await.manifest, data);
        // A copy of the copy is the same again.
        let (second, _) = on.copy(of(copy)).await.unwrap();
        on.delete_volume(copy).await.unwrap();
        on.round().await;
        assert_eq!(on.state_of(second).await, VolumeState::Available);
        assert_eq!(on.needed().await, needed);
        on.delete_volume(second).await.unwrap();
        assert!(on.needed().await.is_empty());
    }
}

#[tokio::test]
async fn a_root_is_copied_where_its_instance_is_and_not_after_its_end() {
    let mut on = Instances::new().await;
    let instance = on.running().await;
    let root = VolumeId::from_db(instance.to_db());
    let (copy, hidden) = on.copy(of(root)).await.unwrap();
    on.round().await;
    let told = on.told_to_take().await.unwrap();
    assert_eq!((told[0].volume, told[0].root_of), (root, Some(instance)));
    on.takes_it(hidden).await;
    assert_eq!(on.state_of(copy).await, VolumeState::Available);
    assert_eq!(on.disk(copy).await.image, None);

    let (late, _) = on.copy(of(root)).await.unwrap();
    instances::terminate(&on.rig.cloud, &on.rig.who, &[instance])
        .await
        .unwrap();
    on.round().await;
    let row = on.disk(late).await;
    assert_eq!(row.state.0, VolumeState::Error);
    assert!(row.state_message.unwrap().contains("has ended"));
}

#[tokio::test]
async fn a_copy_is_as_encrypted_as_its_source_and_more_where_that_is_asked_for() {
    let mut on = Instances::new().await;
    let _key = on.able("host-1").await;
    let (plain, _) = on.attached().await;
    let asked = |encrypted| EncryptionAsked { encrypted, key: None };
    let (copy, hidden) = on
        .copy(NewCopy {
            encryption: asked(Some(true)),
            ..of(plain)
        })
        .await
        .unwrap();
    on.round().await;
    on.takes_it(hidden).await;
    let encrypted = on.disk(copy).await;
    assert!(encrypted.encrypted.0 && !on.kept(hidden).await.encrypted.0);
    on.told_to_take().await;

    // It is to be made of plain blocks and has a key of its own: what a copy of it has is encrypted by a host first.
    let (second, taken_of_it) = on
        .copy(NewCopy {
            encryption: asked(Some(false)),
            ..of(copy)
        })
        .await
        .unwrap();
    on.round().await;
    let (host, command) = on.takes().await.expect("a host is told");
    let Action::TakeSnapshots(sources) = &command.action else {
        panic!("{command:?}");
    };
    assert_eq!((host, &sources[0].of), ("host-1", &Some(manifest(hidden))));
    on.takes_it(taken_of_it).await;
    let row = on.disk(second).await;
    let name = |row: &volume::Model| disk_keys::name(row.data_key.as_ref().unwrap()).to_owned();
    assert!(row.encrypted.0, "as on EC2, whatever was asked for");
    assert_eq!(
        (row.state.0, name(&row)),
        (VolumeState::Available, name(&encrypted))
    );
    let hanging = Hanging::load(on.conductor.store.read()).await.unwrap();
    let strange: Vec<_> = hanging
        .findings(&[], &[])
        .into_iter()
        .filter(|words| words.contains("key"))
        .collect();
    assert_eq!(strange, [""; 0]);
}

/// A program of before copies ends the taking of a hidden snapshot, and knows of nobody who waits for it.
#[tokio::test]
async fn a_copy_that_an_earlier_program_has_forgotten_is_found() {
    let on = Instances::new().await;
    let (source, _) = on.attached().await;
    let (done, hidden) = on.copy(of(source)).await.unwrap();
    let (lost, other) = on.copy(of(source)).await.unwrap();
    let write = on.conductor.store.clone();
    let now = on.rig.cloud.now();
    let close = write.write(move |txn| {
        Box::pin(async move {
            store::close(txn, &[hidden.to_db()], None, now).await?;
            store::close(txn, &[other.to_db()], Some("no host has it"), now).await
        })
    });
    close.await.unwrap();
    assert_eq!(on.amiss().await.len(), 2, "{:?}", on.amiss().await);
    assert!(catch_up::write_missing(&write).await.unwrap());
    assert_eq!(on.state_of(done).await, VolumeState::Available);
    let row = on.disk(lost).await;
    assert_eq!(
        (row.state.0, row.state_message.as_deref()),
        (VolumeState::Error, Some("no host has it"))
    );
    assert_eq!(on.amiss().await, [""; 0]);
    assert!(!catch_up::write_missing(&write).await.unwrap(), "once is enough");
}

//! Roots that outlive their instances: volumes of their hosts from the instance's end on.

use cumulet_compute::instances as api;
use cumulet_domain::{
    Error,
    id::{InstanceId, VolumeId},
    image::DiskFormat,
    message::{Action, KeptRoot, Power},
    spec::DiskSource,
    volume::{AttachmentState, ROOT_DEVICE, VolumeState, VolumeStore},
};
use cumulet_store::{catch_up, entity::volume, failed};
use futures::FutureExt as _;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{
    Instances,
    volumes::{DONE, Said},
};
use crate::{api::volumes, test_support::volume as mapped};

const GIB: i64 = 2;

/// The root of an instance, whose number it has.
fn root_of(id: InstanceId) -> VolumeId {
    VolumeId::from_db(id.to_db())
}

impl Instances {
    /// An instance whose launch says that its root outlives it.
    async fn launched_to_keep(&self) -> InstanceId {
        let mut spec = self.rig.spec();
        spec.mappings = vec![mapped(ROOT_DEVICE, |disk| {
            (disk.delete_on_termination, disk.size_gib) = (Some(false), Some(GIB as u32));
        })];
        let made = api::launch(&self.rig.cloud, &self.rig.who, spec).await;
        made.unwrap().instances[0].id()
    }

    /// Whether a root ends with its instance, said later.
    async fn keep(&self, id: InstanceId, kept: bool) -> cumulet_domain::Result<()> {
        let change = api::AttributeChange::Disk(api::DiskChange {
            device: ROOT_DEVICE.into(),
            volume: None,
            delete_on_termination: !kept,
        });
        api::modify_attribute(&self.rig.cloud, &self.rig.who, id, change).await
    }

    /// Ends an instance; what its host is told to keep of it, and does.
    async fn terminated(&mut self, id: InstanceId) -> Option<KeptRoot> {
        self.terminated_by(id, true).await
    }

    /// The same, by a host that has it then, or not.
    async fn terminated_by(&mut self, id: InstanceId, has_it: bool) -> Option<KeptRoot> {
        let ended = api::terminate(&self.rig.cloud, &self.rig.who, &[id]).await;
        ended.unwrap();
        self.round().await;
        let mut told = None;
        for mailbox in &mut self.mailboxes {
            while let Some(Some(delivery)) = mailbox.next().now_or_never() {
                if let cumulet_bus::Delivery::Command(command) = delivery {
                    if let Action::Destroy { instance, kept, .. } = command.action {
                        assert_eq!(instance, id);
                        assert_eq!(command.version(), if kept.is_some() { 5 } else { 1 });
                        told = Some(kept);
                    }
                    command.ack();
                }
            }
        }
        let open = self.open(id).await;
        let gone = Said {
            power: Power::Absent,
            root: told.flatten().map(|root| root.volume).filter(|_| has_it),
            ..DONE
        };
        self.answer_of(&open, id, gone).await;
        assert_eq!(self.row(id.to_db()).await.state.to_string(), "terminated");
        told.unwrap()
    }

    async fn up(&self, id: InstanceId) -> String {
        self.round().await;
        self.end(id, Ok(())).await;
        self.row(id.to_db()).await.host.unwrap()
    }
}

#[tokio::test]
async fn a_root_that_outlives_its_instance_is_a_volume_as_any_other() {
    let mut stage = Instances::new().await;
    let id = stage.launched_to_keep().await;
    let (host, root) = (stage.up(id).await, root_of(id));
    assert_eq!(stage.disk_used(&host).await, GIB);
    let told = stage.terminated(id).await;
    assert_eq!(
        told,
        Some(KeptRoot {
            volume: root,
            encrypted: false
        })
    );
    assert_eq!(stage.states(root).await, (VolumeState::Available, None));
    let row = stage.disk(root).await;
    assert_eq!((row.host.as_ref(), row.deleted_at), (Some(&host), None));
    assert_eq!(stage.disk_used(&host).await, GIB, "it is still there");

    // It comes to another instance of its host as it is, and nothing is made of it anew.
    let other = loop {
        let other = stage.running().await;
        if stage.row(other.to_db()).await.host.as_ref() == Some(&host) {
            break other;
        }
    };
    stage.attach(root, other, "/dev/sdf").await;
    stage.round().await;
    let (_, spec, _) = stage.told().await.unwrap();
    let disk = spec.disks.iter().find(|disk| disk.volume == root).unwrap();
    let expected = DiskSource::Volume {
        store: VolumeStore::Local,
        format: DiskFormat::Qcow2,
        create: false,
        generation: stage.disk(root).await.generation.0,
        from: None,
    };
    assert_eq!((&disk.source, disk.boot_order), (&expected, None));
    let open = stage.at_work(root).await.unwrap();
    stage.answer_of(&open, other, DONE).await;
    assert_eq!(stage.states(root).await.1, Some(AttachmentState::Attached));
    // That one's end leaves it, too, and it can be deleted.
    assert_eq!(stage.terminated(other).await, None);
    assert_eq!(stage.states(root).await, (VolumeState::Available, None));
    let deleted = volumes::delete(&stage.rig.cloud, &stage.rig.who, root).await;
    deleted.unwrap();
    stage.round().await;
    let open = stage.at_work(root).await.unwrap();
    stage.report(&open, None).await;
    assert_eq!(stage.states(root).await.0, VolumeState::Deleted);
}

#[tokio::test]
async fn of_an_instance_that_has_not_come_up_no_root_is_kept() {
    let mut stage = Instances::new().await;
    let id = stage.launched_to_keep().await;
    stage.round().await;
    let host = stage.row(id.to_db()).await.host.unwrap();
    assert_eq!(stage.terminated(id).await, None);
    let row = stage.disk(root_of(id)).await;
    assert_eq!((row.state.0, row.host), (VolumeState::Deleted, None));
    assert_eq!(stage.disk_used(&host).await, 0);
}

#[tokio::test]
async fn whether_a_root_is_kept_may_be_said_as_long_as_its_instance_is_there() {
    let mut stage = Instances::new().await;
    for kept in [true, false] {
        let id = stage.launched().await;
        let refused = stage.keep(id, true).await;
        assert!(
            matches!(refused, Err(Error::IncorrectState { .. })),
            "{refused:?}"
        );
        stage.keep(id, false).await.unwrap();
        let host = stage.up(id).await;
        let before = stage.disk_used(&host).await;
        stage.keep(id, true).await.unwrap();
        stage.keep(id, kept).await.unwrap();
        assert_eq!(stage.terminated(id).await.is_some(), kept);
        let (state, gib) = match kept {
            true => (VolumeState::Available, 0),
            false => (
                VolumeState::Deleted,
                stage.disk(root_of(id)).await.size_gib.0.into(),
            ),
        };
        assert_eq!(stage.disk(root_of(id)).await.state.0, state);
        assert_eq!(stage.disk_used(&host).await, before - gib);
        let late = stage.keep(id, !kept).await;
        assert!(late.is_err(), "it has ended");
    }
}

#[tokio::test]
async fn a_kept_root_can_be_taken_a_snapshot_of() {
    let mut stage = Instances::new().await;
    let id = stage.launched_to_keep().await;
    let (host, root) = (stage.up(id).await, root_of(id));
    stage.terminated(id).await;
    let snapshot = stage.complete(root).await;
    assert_eq!(stage.kept(snapshot).await.host, Some(host));
}

/// As a conductor of before leaves it, which has launched the instance.
#[tokio::test]
async fn a_root_that_nobody_has_noted_is_noted_and_kept() {
    let mut stage = Instances::new().await;
    let id = stage.launched_to_keep().await;
    stage.up(id).await;
    let root = root_of(id);
    let forget = stage.conductor.store.write(move |txn| {
        Box::pin(async move {
            let forget = volume::Entity::update_many()
                .col_expr(volume::Column::MadeAt, Expr::value(Option::<i64>::None))
                .filter(volume::Column::Id.eq(root.to_db()));
            forget.exec(txn).await.map(drop).map_err(failed)
        })
    });
    forget.await.unwrap();
    let store = &stage.conductor.store;
    assert!(catch_up::write_missing(store).await.unwrap());
    assert!(!catch_up::write_missing(store).await.unwrap());
    assert!(stage.terminated(id).await.is_some());
}

/// A conductor of before has told its host to keep nothing, or the host had lost the disk: what the host says is believed.
#[tokio::test]
async fn a_root_that_its_host_does_not_have_ends_with_its_instance() {
    let mut stage = Instances::new().await;
    let id = stage.launched_to_keep().await;
    let (host, root) = (stage.up(id).await, root_of(id));
    assert!(stage.terminated_by(id, false).await.is_some());
    let row = stage.disk(root).await;
    assert_eq!((row.state.0, row.host), (VolumeState::Deleted, None));
    assert_eq!(
        (stage.states(root).await.1, stage.disk_used(&host).await),
        (None, 0)
    );
}

//! The operations on volumes, with hosts that the test plays.

use cumulet_compute::instances as api;
use cumulet_domain::{
    id::{InstanceId, VolumeId},
    image::DiskFormat,
    message::{
        Action, Change, Command, InstanceReport, OffReason, Outcome, Power, ReportContent, VolumeOutcome,
    },
    spec::{DiskSource, InstanceSpec},
    volume::{AttachmentState, VolumeState},
};
use cumulet_journal::Operation as _;
use cumulet_operations::*;
use cumulet_store::{
    attachments,
    entity::{host, operation, volume, volume_attachment},
    failed,
};
use futures::FutureExt as _;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{Instances, outcome};

/// What a host answers.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) failure: Option<&'a str>,
    pub(super) permanent: bool,
    pub(super) power: Power,
    pub(super) kept: &'a [VolumeId],
    pub(super) root: Option<VolumeId>,
}

pub(super) const DONE: Said<'_> = Said {
    failure: None,
    permanent: false,
    power: Power::On,
    kept: &[],
    root: None,
};

impl Instances {
    /// What the instance's host has been told last of its devices.
    pub(super) async fn told(&mut self) -> Option<(Command, InstanceSpec, Change)> {
        let mut last = None;
        for mailbox in &mut self.mailboxes {
            while let Some(Some(delivery)) = mailbox.next().now_or_never() {
                if let cumulet_bus::Delivery::Command(command) = delivery {
                    if let Action::Change { spec, what, .. } = &command.action {
                        last = Some((Command::clone(&command), InstanceSpec::clone(spec), *what));
                    }
                    command.ack();
                }
            }
        }
        last
    }

    /// What the instance's host has been told last to run.
    pub(super) async fn started(&mut self) -> Option<InstanceSpec> {
        let mut last = None;
        for mailbox in &mut self.mailboxes {
            while let Some(Some(delivery)) = mailbox.next().now_or_never() {
                if let cumulet_bus::Delivery::Command(command) = delivery {
                    if let Action::Run { spec, .. } = &command.action {
                        last = Some(InstanceSpec::clone(spec));
                    }
                    command.ack();
                }
            }
        }
        last
    }

    pub(super) async fn disk(&self, volume: VolumeId) -> volume::Model {
        let found = attachments::find(self.conductor.store.read(), volume.to_db()).await;
        found.unwrap().unwrap()
    }

    pub(super) async fn attachment(&self, volume: VolumeId) -> Option<volume_attachment::Model> {
        let found = attachments::of_volume(self.conductor.store.read(), volume.to_db()).await;
        found.unwrap()
    }

    pub(super) async fn states(&self, volume: VolumeId) -> (VolumeState, Option<AttachmentState>) {
        let attached = self.attachment(volume).await;
        (self.disk(volume).await.state.0, attached.map(|row| row.state.0))
    }

    /// The host answers a command of an operation on a volume at the instance's present generation.
    pub(super) async fn answer_of(&self, open: &operation::Model, instance: InstanceId, said: Said<'_>) {
        let row = self.row(instance.to_db()).await;
        let answer = Outcome {
            failure: said.failure.map(str::to_owned),
            permanent: said.permanent,
            kept: said.kept.to_vec(),
            root: said.root,
            report: InstanceReport {
                power: said.power,
                off_reason: (said.power == Power::Off).then_some(OffReason::GuestShutdown),
                ..outcome(open, &row, None).report
            },
            ..outcome(open, &row, None)
        };
        self.say(&row.host.unwrap(), ReportContent::Done(answer)).await;
    }

    /// Everything that was put off is due again.
    pub(super) async fn later(&self) {
        self.rig.pass(std::time::Duration::from_secs(40));
        self.round().await;
    }

    /// The time of everything that is under way is over.
    pub(super) async fn overdue(&self) {
        let write = self.conductor.store.write(|txn| {
            Box::pin(async move {
                let past = operation::Entity::update_many()
                    .col_expr(operation::Column::Deadline, Expr::value(0_i64));
                past.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    pub(super) async fn disk_used(&self, name: &str) -> i64 {
        let row = host::Entity::find_by_id(name)
            .one(self.conductor.store.read())
            .await;
        row.unwrap().unwrap().disk_gib_used
    }
}

/// The volumes beside the root of a specification, and whether they may be made.
pub(super) fn data(spec: &InstanceSpec) -> Vec<(VolumeId, bool)> {
    let data = spec.disks.iter().filter_map(|disk| match disk.source {
        DiskSource::Volume { create, .. } => Some((disk.volume, create)),
        DiskSource::Image(_) => None,
    });
    data.collect()
}

#[tokio::test]
async fn a_guest_that_runs_gets_a_volume_and_lets_go_of_it() {
    let mut stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.running().await);
    let before = stage.row(id.to_db()).await;
    let host = before.host.clone().unwrap();
    let used = stage.disk_used(&host).await;
    let open = stage.attach(volume, id, "/dev/sdf").await;
    assert_eq!(stage.row(id.to_db()).await.generation, before.generation);
    stage.round().await;
    let (command, spec, what) = stage.told().await.unwrap();
    assert_eq!(command.operation, Some(open.id.0));
    assert_eq!(what, Change::AttachVolume);
    assert_eq!(spec.generation, before.generation.next().0);
    assert_eq!(data(&spec), [(volume, true)]);
    assert_eq!(spec.disks[1].device, "/dev/sdf");
    // What it claims stands before the host has made anything.
    assert_eq!(stage.disk_used(&host).await, used + 1);
    assert_eq!(
        stage.states(volume).await,
        (VolumeState::InUse, Some(AttachmentState::Attaching))
    );
    stage.answer_of(&open, id, DONE).await;
    assert_eq!(
        stage.states(volume).await,
        (VolumeState::InUse, Some(AttachmentState::Attached))
    );
    let disk = stage.disk(volume).await;
    assert_eq!(
        (disk.host.as_deref(), disk.made_at.is_some()),
        (Some(&*host), true)
    );

    let open = stage.detach(volume).await;
    stage.round().await;
    let (_, spec, what) = stage.told().await.unwrap();
    assert_eq!((what, data(&spec)), (Change::DetachVolume, vec![]));
    assert_eq!(spec.generation, before.generation.0 + 2);
    stage.answer_of(&open, id, DONE).await;
    assert_eq!(stage.states(volume).await, (VolumeState::Available, None));
    assert_eq!(stage.disk_used(&host).await, used + 1, "its data is there");
    // The next time it is not made anew.
    stage.attach(volume, id, "/dev/sdg").await;
    stage.round().await;
    assert_eq!(data(&stage.told().await.unwrap().1), [(volume, false)]);
}

/// What a program of before has made stays what it is.
#[tokio::test]
async fn a_volume_is_raw_where_it_is_plain_and_was_not_made_before() {
    let mut stage = Instances::new().await;
    let id = stage.running().await;
    let host = stage.row(id.to_db()).await.host.unwrap();
    for (encrypted, before, expected) in [
        (false, false, DiskFormat::Raw),
        (true, false, DiskFormat::Qcow2),
        (false, true, DiskFormat::Qcow2),
    ] {
        let volume = stage.made().await;
        let host = before.then(|| host.clone());
        let write = stage.conductor.store.write(move |txn| {
            let host = host.clone();
            Box::pin(async move {
                let made = host.as_ref().map(|_| 1_i64);
                let update = volume::Entity::update_many()
                    .col_expr(volume::Column::Encrypted, Expr::value(i64::from(encrypted)))
                    .col_expr(volume::Column::Host, Expr::value(host))
                    .col_expr(volume::Column::MadeAt, Expr::value(made))
                    .filter(volume::Column::Id.eq(volume.to_db()));
                update.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
        let open = stage.attach(volume, id, "/dev/sdf").await;
        stage.round().await;
        let (_, spec, _) = stage.told().await.unwrap();
        let disk = spec.disks.iter().find(|disk| disk.volume == volume);
        let DiskSource::Volume { format, .. } = disk.unwrap().source else {
            panic!("{disk:?}");
        };
        assert_eq!(format, expected, "{encrypted} {before}");
        stage.answer_of(&open, id, DONE).await;
        let open = stage.detach(volume).await;
        stage.round().await;
        stage.answer_of(&open, id, DONE).await;
    }
}

#[tokio::test]
async fn a_stopped_instance_gets_it_with_its_next_start() {
    let mut stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.stopped().await);
    stage.attach(volume, id, "/dev/sdf").await;
    stage.round().await;
    assert!(stage.told().await.is_none());
    assert_eq!(
        stage.states(volume).await,
        (VolumeState::InUse, Some(AttachmentState::Attached))
    );
    assert!(stage.disk(volume).await.made_at.is_none());
    api::start(&stage.rig.cloud, &stage.rig.who, &[id]).await.unwrap();
    stage.round().await;
    stage.end(id, Ok(())).await;
    assert!(stage.disk(volume).await.made_at.is_some());
    api::stop(&stage.rig.cloud, &stage.rig.who, &[id], true)
        .await
        .unwrap();
    stage.end(id, Ok(())).await;
    stage.detach(volume).await;
    stage.round().await;
    assert_eq!(stage.states(volume).await, (VolumeState::Available, None));
    assert!(stage.told().await.is_none());
}

/// The host once made the file, of which nobody knew when the instance ended before the attach had its turn.
#[tokio::test]
async fn a_start_says_nothing_of_a_volume_that_has_no_room_on_the_host_yet() {
    let mut stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.stopped().await);
    stage.attach(volume, id, "/dev/sdf").await;
    api::start(&stage.rig.cloud, &stage.rig.who, &[id]).await.unwrap();
    stage.round().await;
    let started = stage.started().await.expect("it is told to start");
    assert!(stage.disk(volume).await.host.is_none());
    assert_eq!(data(&started), []);
    stage.end(id, Ok(())).await;
    stage.later().await;
    let (_, spec, what) = stage.told().await.expect("it is told of the volume");
    assert_eq!((what, data(&spec)), (Change::AttachVolume, vec![(volume, true)]));
    assert!(stage.disk(volume).await.host.is_some());
}

#[tokio::test]
async fn what_an_attach_that_failed_has_left_is_detached() {
    let mut stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.running().await);
    let open = stage.attach(volume, id, "/dev/sdf").await;
    stage.round().await;
    let refused = Said {
        failure: Some("the hypervisor refused it"),
        permanent: true,
        ..DONE
    };
    stage.answer_of(&open, id, refused).await;
    assert_eq!(
        stage.states(volume).await,
        (VolumeState::InUse, Some(AttachmentState::Detaching))
    );
    let undo = stage.at_work(volume).await.unwrap();
    assert_eq!(undo.kind, DetachVolume::NAME);
    stage.round().await;
    assert_eq!(data(&stage.told().await.unwrap().1), []);
    stage.answer_of(&undo, id, DONE).await;
    assert_eq!(stage.states(volume).await, (VolumeState::Available, None));
    assert!(stage.at_work(volume).await.is_none());
    // It may have made the file or not: that is not known, so it may again.
    assert!(stage.disk(volume).await.made_at.is_none());
}

#[tokio::test]
async fn an_attach_goes_on_after_a_failure_and_gives_up_after_some() {
    let stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.running().await);
    let open = stage.attach(volume, id, "/dev/sdf").await;
    stage.round().await;
    let failed = Said {
        failure: Some("the hypervisor could not do it"),
        ..DONE
    };
    for _ in 0..4 {
        let open = stage.at_work(volume).await.unwrap();
        assert_eq!(open.kind, AttachVolume::NAME);
        stage.answer_of(&open, id, failed).await;
        stage.later().await;
    }
    let open = operation::Entity::find_by_id(open.id)
        .one(stage.conductor.store.read())
        .await;
    stage.answer_of(&open.unwrap().unwrap(), id, failed).await;
    assert_eq!(stage.at_work(volume).await.unwrap().kind, DetachVolume::NAME);
}

#[tokio::test]
async fn a_deadline_ends_an_attach_and_no_detach() {
    let stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.running().await);
    stage.attach(volume, id, "/dev/sdf").await;
    stage.round().await;
    stage.overdue().await;
    stage.later().await;
    assert_eq!(stage.at_work(volume).await.unwrap().kind, DetachVolume::NAME);
    stage.overdue().await;
    stage.later().await;
    stage.later().await;
    let open = stage.at_work(volume).await.unwrap();
    assert_eq!(open.kind, DetachVolume::NAME);
    stage.answer_of(&open, id, DONE).await;
    assert_eq!(stage.states(volume).await, (VolumeState::Available, None));
}

/// A guest that has turned itself off is not started by a volume that comes: what follows from that comes first.
#[tokio::test]
async fn a_guest_that_has_gone_off_is_stopped_and_not_started() {
    let mut stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.running().await);
    let open = stage.attach(volume, id, "/dev/sdf").await;
    stage.round().await;
    let off = Said {
        failure: Some("the instance does not run"),
        power: Power::Off,
        ..DONE
    };
    stage.answer_of(&open, id, off).await;
    assert_eq!(stage.row(id.to_db()).await.state.to_string(), "stopping");
    stage.told().await;
    stage.later().await;
    assert!(stage.told().await.is_none(), "nothing is told while it stops");
    stage.end(id, Ok(())).await;
    stage.later().await;
    assert_eq!(stage.row(id.to_db()).await.state.to_string(), "stopped");
    assert_eq!(
        stage.states(volume).await,
        (VolumeState::InUse, Some(AttachmentState::Attached))
    );
    assert!(stage.disk(volume).await.made_at.is_none());
    assert!(stage.told().await.is_none());
}

#[tokio::test]
async fn a_guest_that_keeps_a_volume_is_asked_again() {
    let mut stage = Instances::new().await;
    let (volume, id) = stage.attached().await;
    let other = stage.made().await;
    let open = stage.detach(volume).await;
    stage.round().await;
    let keeps = Said {
        failure: Some("the guest uses it and has not let go of it"),
        kept: &[volume],
        ..DONE
    };
    stage.answer_of(&open, id, keeps).await;
    assert_eq!(
        stage.states(volume).await,
        (VolumeState::InUse, Some(AttachmentState::Busy))
    );
    // What it keeps is no failure of another one's attachment.
    let attach = stage.attach(other, id, "/dev/sdg").await;
    stage.round().await;
    stage.answer_of(&attach, id, keeps).await;
    assert_eq!(
        stage.states(other).await,
        (VolumeState::InUse, Some(AttachmentState::Attached))
    );
    stage.told().await;
    stage.later().await;
    let (_, spec, _) = stage.told().await.unwrap();
    assert_eq!(data(&spec), [(other, false)]);
    // Nor is another one's of its own.
    let of_another = Said {
        kept: &[other],
        ..keeps
    };
    stage.answer_of(&open, id, of_another).await;
    assert_eq!(stage.states(volume).await, (VolumeState::Available, None));
}

#[tokio::test]
async fn several_volumes_come_to_one_instance_at_once() {
    let mut stage = Instances::new().await;
    let id = stage.running().await;
    let before = stage.row(id.to_db()).await.generation;
    let mut open = Vec::new();
    for device in ["/dev/sdf", "/dev/sdg", "/dev/sdh"] {
        let volume = stage.made().await;
        open.push((volume, stage.attach(volume, id, device).await));
    }
    stage.round().await;
    let (_, spec, _) = stage.told().await.unwrap();
    assert_eq!(data(&spec).len(), 3);
    assert_eq!(stage.row(id.to_db()).await.generation.0, before.0 + 3);
    for (volume, open) in &open {
        stage.answer_of(open, id, DONE).await;
        assert_eq!(stage.states(*volume).await.1, Some(AttachmentState::Attached));
    }
}

#[tokio::test]
async fn an_answer_of_before_says_nothing() {
    let stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.running().await);
    let open = stage.attach(volume, id, "/dev/sdf").await;
    let state = async || stage.states(volume).await.1;
    stage.answer_of(&open, id, DONE).await;
    assert_eq!(
        state().await,
        Some(AttachmentState::Attaching),
        "nobody was told yet"
    );
    let old = stage.row(id.to_db()).await;
    stage.round().await;
    let answer = outcome(&open, &old, None);
    stage.say(&old.host.unwrap(), ReportContent::Done(answer)).await;
    assert_eq!(
        state().await,
        Some(AttachmentState::Attaching),
        "of another generation"
    );
    let new = stage.row(id.to_db()).await;
    stage
        .say("host-9", ReportContent::Done(outcome(&open, &new, None)))
        .await;
    assert_eq!(state().await, Some(AttachmentState::Attaching), "of another host");
    stage.answer_of(&open, id, DONE).await;
    assert_eq!(state().await, Some(AttachmentState::Attached));
}

/// What is under way for an instance is not made void by a volume that comes, and the volume comes afterwards.
#[tokio::test]
async fn an_operation_on_the_instance_ends_first() {
    let mut stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.running().await);
    api::reboot(&stage.rig.cloud, &stage.rig.who, &[id])
        .await
        .unwrap();
    let generation = stage.row(id.to_db()).await.generation;
    let open = stage.attach(volume, id, "/dev/sdf").await;
    stage.round().await;
    assert!(stage.told().await.is_none());
    assert_eq!(stage.row(id.to_db()).await.generation, generation);
    stage.end(id, Ok(())).await;
    stage.later().await;
    assert_eq!(data(&stage.told().await.unwrap().1), [(volume, true)]);
    stage.answer_of(&open, id, DONE).await;
    assert_eq!(stage.states(volume).await.1, Some(AttachmentState::Attached));
}

#[tokio::test]
async fn what_an_instance_ends_amid_an_attach_is_free_or_deleted() {
    for deleted in [false, true] {
        let stage = Instances::new().await;
        let (volume, id) = (stage.made().await, stage.running().await);
        stage.attach(volume, id, "/dev/sdf").await;
        stage.round().await;
        if deleted {
            let change = api::AttributeChange::Disk(api::DiskChange {
                device: "/dev/sdf".into(),
                volume: Some(volume),
                delete_on_termination: true,
            });
            let changed = api::modify_attribute(&stage.rig.cloud, &stage.rig.who, id, change).await;
            changed.unwrap();
        }
        api::terminate(&stage.rig.cloud, &stage.rig.who, &[id])
            .await
            .unwrap();
        stage.later().await;
        let host = stage.row(id.to_db()).await.host.unwrap();
        stage.end(id, Ok(())).await;
        assert_eq!(stage.row(id.to_db()).await.state.to_string(), "terminated");
        if !deleted {
            assert_eq!(stage.states(volume).await, (VolumeState::Available, None));
            stage.later().await;
            assert!(stage.at_work(volume).await.is_none());
            assert_eq!(stage.disk_used(&host).await, 1);
            continue;
        }
        assert_eq!(stage.states(volume).await, (VolumeState::Deleting, None));
        let open = stage.at_work(volume).await.unwrap();
        assert_eq!(open.kind, DeleteVolume::NAME);
        stage.round().await;
        let gone = VolumeOutcome {
            operation: open.id.0,
            volume,
            failure: Some("the disk is too slow".into()),
            permanent: true,
        };
        stage.say(&host, ReportContent::VolumeDone(gone.clone())).await;
        assert_eq!(stage.states(volume).await.0, VolumeState::Deleting, "it goes on");
        let gone = VolumeOutcome {
            failure: None,
            ..gone
        };
        stage.say("host-9", ReportContent::VolumeDone(gone.clone())).await;
        assert_eq!(
            stage.states(volume).await.0,
            VolumeState::Deleting,
            "another host says so"
        );
        stage.say(&host, ReportContent::VolumeDone(gone)).await;
        let disk = stage.disk(volume).await;
        assert_eq!((disk.state.0, disk.host), (VolumeState::Deleted, None));
        assert!(disk.deleted_at.is_some());
        assert_eq!(stage.disk_used(&host).await, 0);
    }
}

#[tokio::test]
async fn a_host_without_room_gets_no_volume() {
    let mut stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.running().await);
    let host = stage.row(id.to_db()).await.host.unwrap();
    let full = stage.conductor.store.write(|txn| {
        Box::pin(async move {
            let full = host::Entity::update_many()
                .col_expr(host::Column::DiskGibMax, Expr::col(host::Column::DiskGibUsed));
            full.exec(txn).await.map(drop).map_err(failed)
        })
    });
    full.await.unwrap();
    let used = stage.disk_used(&host).await;
    let open = stage.attach(volume, id, "/dev/sdf").await;
    let generation = stage.row(id.to_db()).await.generation;
    stage.round().await;
    assert!(stage.told().await.is_none());
    assert_eq!(stage.states(volume).await, (VolumeState::Available, None));
    assert_eq!(
        (
            stage.disk_used(&host).await,
            stage.row(id.to_db()).await.generation
        ),
        (used, generation)
    );
    let ended = operation::Entity::find_by_id(open.id)
        .one(stage.conductor.store.read())
        .await;
    let ended = ended.unwrap().unwrap();
    assert_eq!(ended.status.to_string(), "failed");
    assert!(
        ended
            .error
            .unwrap()
            .starts_with("Server.InsufficientVolumeCapacity")
    );
}

/// An engine of before that comes late with its decision changes nothing of what came after.
#[tokio::test]
async fn a_detach_amid_an_attach_takes_its_place() {
    let mut stage = Instances::new().await;
    let (volume, id) = (stage.made().await, stage.running().await);
    let attach = stage.attach(volume, id, "/dev/sdf").await;
    stage.round().await;
    let detach = stage.detach(volume).await;
    stage.answer_of(&attach, id, DONE).await;
    assert_eq!(
        stage.states(volume).await,
        (VolumeState::InUse, Some(AttachmentState::Detaching))
    );
    stage.round().await;
    assert_eq!(data(&stage.told().await.unwrap().1), []);
    stage.answer_of(&detach, id, DONE).await;
    assert_eq!(stage.states(volume).await, (VolumeState::Available, None));
}

//! Launches with volumes beside the root, with hosts that the test plays.

use std::time::Duration;

use cumulet_compute::instances as api;
use cumulet_domain::{
    Error,
    id::{InstanceId, VolumeId},
    message::{Action, ReportContent, VolumeOutcome},
    spec::DiskSource,
    volume::{AttachmentState, VolumeState},
};
use cumulet_journal::Operation as _;
use cumulet_operations::*;
use cumulet_store::entity::operation;
use futures::FutureExt as _;

use super::{Instances, volumes::data};
use crate::{
    api::volumes as volumes_api,
    test_support::{QUOTAS, volume},
};

/// The GiB of the root, and of the volumes beside it.
const ROOT: i64 = 2;
const DATA: i64 = 3 + 4;

/// What a host was told to delete: the volume, and at which generation.
pub(super) type Deletion = (VolumeId, u64);

impl Instances {
    /// A launch with a volume that ends with the instance and one that does not.
    pub(super) fn with_volumes(&self) -> api::LaunchSpec {
        let mut spec = self.rig.spec();
        spec.mappings = vec![
            volume("/dev/sdg", |asked| {
                (asked.size_gib, asked.delete_on_termination) = (Some(4), Some(false));
            }),
            volume("/dev/sdf", |asked| asked.size_gib = Some(3)),
        ];
        spec
    }

    /// An instance that is being launched with a volume that ends with it and one that does not.
    pub(super) async fn launched_with_volumes(&self) -> (InstanceId, [VolumeId; 2]) {
        let spec = self.with_volumes();
        let made = api::launch(&self.rig.cloud, &self.rig.who, spec).await.unwrap();
        let view = &made.instances[0];
        let devices: Vec<_> = view.disks.iter().map(|disk| disk.device.as_str()).collect();
        assert_eq!(devices, ["/dev/xvda", "/dev/sdf", "/dev/sdg"]);
        (view.id(), [view.disks[1].volume, view.disks[2].volume])
    }

    /// What hosts were told to destroy, and to delete of volumes.
    pub(super) async fn told_to_remove(&mut self) -> (usize, Vec<Deletion>) {
        let (mut destroyed, mut deleted) = (0, Vec::new());
        for mailbox in &mut self.mailboxes {
            while let Some(Some(delivery)) = mailbox.next().now_or_never() {
                let cumulet_bus::Delivery::Command(command) = delivery else {
                    continue;
                };
                match command.action {
                    Action::Destroy { .. } => destroyed += 1,
                    Action::DeleteVolume {
                        volume, generation, ..
                    } => deleted.push((volume, generation)),
                    _ => {}
                }
                command.ack();
            }
        }
        deleted.sort_unstable();
        (destroyed, deleted)
    }

    /// A host says what has become of the deletion of a volume.
    pub(super) async fn deleted(
        &self,
        host: &str,
        open: &operation::Model,
        volume: VolumeId,
        failure: Option<&str>,
    ) {
        let outcome = VolumeOutcome {
            operation: open.id.0,
            volume,
            failure: failure.map(str::to_owned),
            permanent: false,
        };
        self.say(host, ReportContent::VolumeDone(outcome)).await;
    }

    pub(super) async fn state_of(&self, volume: VolumeId) -> VolumeState {
        self.disk(volume).await.state.0
    }
}

#[tokio::test]
async fn an_instance_has_its_volumes_when_it_starts_for_the_first_time() {
    let mut stage = Instances::new().await;
    let (id, volumes) = stage.launched_with_volumes().await;
    let pending = (VolumeState::InUse, Some(AttachmentState::Attaching));
    for volume in volumes {
        assert_eq!(stage.states(volume).await, pending);
        assert!(stage.disk(volume).await.host.is_none());
    }
    stage.round().await;
    let host = stage.row(id.to_db()).await.host.unwrap();
    assert_eq!(stage.disk_used(&host).await, ROOT + DATA, "all in one claim");
    let spec = stage.started().await.expect("it is told to start");
    assert_eq!(data(&spec), volumes.map(|volume| (volume, true)));
    let sizes: Vec<_> = spec.disks.iter().map(|disk| disk.size_gib).collect();
    assert_eq!(sizes, [2, 3, 4]);
    assert_eq!(spec.metadata.data_devices, ["/dev/sdf", "/dev/sdg"]);
    stage.end(id, Ok(())).await;
    for volume in volumes {
        let attached = (VolumeState::InUse, Some(AttachmentState::Attached));
        assert_eq!(stage.states(volume).await, attached);
        let disk = stage.disk(volume).await;
        assert_eq!(
            (disk.host.as_deref(), disk.made_at.is_some()),
            (Some(&*host), true)
        );
    }
}

/// What it was launched with is as what came to it later.
#[tokio::test]
async fn one_volume_ends_with_its_instance_and_the_other_is_free() {
    let mut stage = Instances::new().await;
    let (id, [ends, stays]) = stage.launched_with_volumes().await;
    stage.round().await;
    stage.end(id, Ok(())).await;
    let host = stage.row(id.to_db()).await.host.unwrap();
    let (cloud, who) = (&stage.rig.cloud, &stage.rig.who);
    api::terminate(cloud, who, &[id]).await.unwrap();
    stage.round().await;
    stage.end(id, Ok(())).await;
    assert_eq!(stage.state_of(ends).await, VolumeState::Deleting);
    assert_eq!(stage.states(stays).await, (VolumeState::Available, None));
    let open = stage.at_work(ends).await.unwrap();
    assert_eq!(open.kind, DeleteVolume::NAME);
    stage.round().await;
    assert_eq!(stage.told_to_remove().await, (1, vec![(ends, open.generation.0)]));
    stage.deleted(&host, &open, ends, None).await;
    assert_eq!(stage.state_of(ends).await, VolumeState::Deleted);
    assert_eq!(stage.disk_used(&host).await, 4);
}

#[tokio::test]
async fn a_launch_that_is_tried_elsewhere_takes_its_volumes_along() {
    let mut stage = Instances::new().await;
    let (id, volumes) = stage.launched_with_volumes().await;
    stage.round().await;
    let first = stage.row(id.to_db()).await.host.unwrap();
    let told = stage.started().await.unwrap();
    stage.end(id, Err("the disk is broken")).await;
    let open = stage.open(id).await;
    assert_eq!(open.step, "clear");
    stage.round().await;
    assert_eq!(
        stage.told_to_remove().await,
        (1, vec![]),
        "its guest may have them in hands"
    );
    stage.end(id, Ok(())).await;
    assert_eq!(stage.open(id).await.step, "clear", "its volumes are there yet");
    let mut deletions = volumes.map(|volume| (volume, 2)).to_vec();
    deletions.sort_unstable();
    assert_eq!(stage.told_to_remove().await, (0, deletions.clone()));

    // What is lost or fails comes again.
    stage
        .deleted(&first, &open, volumes[0], Some("it is in use"))
        .await;
    stage.rig.pass(Duration::from_secs(16));
    stage.round().await;
    assert_eq!(stage.told_to_remove().await, (1, vec![]));
    stage.end(id, Ok(())).await;
    assert_eq!(stage.told_to_remove().await, (0, deletions));
    for _ in 0..2 {
        stage.deleted(&first, &open, volumes[1], None).await;
        assert_eq!(stage.disk_used(&first).await, ROOT + 3);
        assert_eq!(stage.open(id).await.step, "clear");
    }
    // Nobody else speaks for them.
    let other = if first == "host-1" { "host-2" } else { "host-1" };
    stage.deleted(other, &open, volumes[0], None).await;
    assert_eq!(stage.disk(volumes[0]).await.host.as_deref(), Some(&*first));
    stage.deleted(&first, &open, volumes[0], None).await;
    assert_eq!(stage.disk_used(&first).await, 0);
    assert_eq!(stage.open(id).await.step, "place");

    stage.round().await;
    assert_eq!(stage.row(id.to_db()).await.host.as_deref(), Some(other));
    assert_eq!(stage.disk_used(other).await, ROOT + DATA);
    // An answer that comes again says nothing of the new host.
    stage.deleted(&first, &open, volumes[0], None).await;
    let again = stage.started().await.unwrap();
    assert_eq!(data(&again), data(&told));
    for disk in &again.disks[1..] {
        let DiskSource::Volume { generation, .. } = disk.source else {
            panic!("{disk:?}");
        };
        assert_eq!(generation, 3, "no tombstone keeps it from going back");
    }
    stage.end(id, Ok(())).await;
    assert_eq!(
        stage.states(volumes[0]).await,
        (VolumeState::InUse, Some(AttachmentState::Attached))
    );
}

/// The deletions are told at an answer, and by the same rule as what steps tell.
#[tokio::test]
async fn a_deletion_that_no_host_has_heard_of_is_soon_told_again() {
    let mut stage = Instances::new().await;
    let (id, _) = stage.launched_with_volumes().await;
    stage.round().await;
    stage.end(id, Err("the disk is broken")).await;
    stage.round().await;
    let waits = async |stage: &Instances| stage.open(id).await.next_at - stage.rig.cloud.now().0;
    assert_eq!(waits(&stage).await, 15_000);
    stage.mailboxes.clear();
    stage.end(id, Ok(())).await;
    let open = stage.open(id).await;
    assert_eq!((open.step.as_str(), waits(&stage).await), ("clear", 1000));
}

#[tokio::test]
async fn what_a_launch_that_failed_has_left_is_deleted_or_free() {
    let mut stage = Instances::new().await;
    let (id, [ends, stays]) = stage.launched_with_volumes().await;
    stage.round().await;
    let host = stage.row(id.to_db()).await.host.unwrap();
    stage.overdue().await;
    stage.later().await;
    assert_eq!(stage.open(id).await.kind, Terminate::NAME);
    stage.round().await;
    stage.end(id, Ok(())).await;
    assert_eq!(stage.states(stays).await, (VolumeState::Available, None));
    assert!(stage.disk(stays).await.made_at.is_none(), "that is not known");
    let open = stage.at_work(ends).await.unwrap();
    stage.round().await;
    stage.told_to_remove().await;
    stage.deleted(&host, &open, ends, None).await;
    assert_eq!(stage.state_of(ends).await, VolumeState::Deleted);
    assert_eq!(stage.disk_used(&host).await, 4);
}

#[tokio::test]
async fn what_never_came_to_a_host_ends_at_once() {
    let stage = Instances::new().await;
    let (id, [ends, stays]) = stage.launched_with_volumes().await;
    let (cloud, who) = (&stage.rig.cloud, &stage.rig.who);
    api::terminate(cloud, who, &[id]).await.unwrap();
    stage.round().await;
    assert_eq!(stage.state_of(ends).await, VolumeState::Deleted);
    assert_eq!(stage.states(stays).await, (VolumeState::Available, None));
    assert!(stage.disk(stays).await.host.is_none());
}

#[tokio::test]
async fn while_it_is_launched_its_volumes_are_the_launchs() {
    let stage = Instances::new().await;
    let (id, [volume, _]) = stage.launched_with_volumes().await;
    let (cloud, who) = (&stage.rig.cloud, &stage.rig.who);
    let what = volumes_api::Detach {
        volume,
        instance: None,
        device: None,
    };
    let incorrect = |error: Error| assert!(matches!(error, Error::IncorrectState { .. }), "{error:?}");
    let detach = volumes_api::detach(cloud, who, what.clone()).await;
    incorrect(detach.unwrap_err());
    let larger = cumulet_domain::volume::VolumeChange {
        size_gib: Some(9),
        ..Default::default()
    };
    let modify = volumes_api::modify(cloud, who, volume, larger).await;
    incorrect(modify.unwrap_err());
    let delete = volumes_api::delete(cloud, who, volume).await;
    assert!(matches!(delete, Err(Error::InUse { .. })));
    stage.round().await;
    stage.end(id, Ok(())).await;
    let detach = volumes_api::detach(cloud, who, what).await;
    assert_eq!(detach.unwrap().state, AttachmentState::Detaching);
}

/// A host without room for all of it is not chosen, and none is told half of it.
#[tokio::test]
async fn a_host_has_room_for_all_of_it_or_is_not_chosen() {
    let stage = Instances::new().await;
    let mut spec = stage.rig.spec();
    spec.mappings = vec![volume("/dev/sdf", |asked| asked.size_gib = Some(16_000))];
    spec.max = 1000;
    let made = api::launch(&stage.rig.cloud, &stage.rig.who, spec).await.unwrap();
    // By the account's quota of GiB.
    let fitting = QUOTAS.volume_gib / 16_000;
    assert_eq!(made.instances.len() as u64, fitting);
    stage.round().await;
    let used = stage.disk_used("host-1").await + stage.disk_used("host-2").await;
    assert_eq!(used, fitting.cast_signed() * (16_000 + ROOT));
}

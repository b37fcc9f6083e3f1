//! What waits for hours on a host, and keeps nothing else waiting: there is no number of commands of one kind after which
//! the host takes none of another.

use cumulet_domain::{
    id::{SnapshotId, VolumeId},
    message::SnapshotSource,
    volume::VolumeStore,
};
use cumulet_hypervisor::fake::FaultPlan;

use super::{snapshots::Recorder, *};
use crate::{
    intake::WAITING,
    testing::{data, metadata},
};

/// More of one kind than may wait altogether.
fn many() -> u64 {
    WAITING as u64 + 100
}

impl Host {
    async fn send_as(&self, operation: u64, action: Action) {
        let command = Command {
            operation: Some(OperationId::new(operation)),
            deadline: self.clock.now().after(Duration::from_secs(300)),
            action,
            keys: Vec::new(),
            storage: None,
        };
        self.bus.send(&name(), command).await.unwrap();
    }

    /// Waits until the snapshots of so many more commands have been taken.
    async fn all_taken(&mut self, mut left: usize) {
        self.until(|content| {
            if let ReportContent::SnapshotDone(done) = content {
                assert_eq!(done.failure, None);
                left -= 1;
            }
            (left == 0).then_some(())
        })
        .await;
    }

    /// Waits until so many commands were known.
    async fn until_repeated(&self, count: u64) {
        let known = async {
            while self.worker.counters().read().2 < count {
                tokio::task::yield_now().await;
            }
        };
        let known = tokio::time::timeout(Duration::from_secs(20), known).await;
        known.expect("what is sent again is known");
    }
}

fn taking(snapshot: u64, volume: u64) -> Action {
    Action::TakeSnapshots(vec![SnapshotSource {
        store: VolumeStore::Local,
        snapshot: SnapshotId::new(snapshot),
        volume: VolumeId::new(volume),
        root_of: None,
        base: None,
        encrypted: false,
        of: None,
    }])
}

/// Once they were among what waits, two at a time being taken: a stop, a launch or a policy did not come through.
#[tokio::test]
async fn however_many_snapshots_wait_all_else_is_done() {
    let store = Arc::new(Recorder::default());
    let kept = store.clone();
    let mut host = Host::with(|deps| deps.snapshots = kept).await;
    let gate = store.gate.lock().await;
    for n in 0..many() {
        host.send_as(1_000_000 + n, taking(n, n)).await;
    }
    // And as many of one volume.
    for n in 0..many() {
        host.send_as(2_000_000 + n, taking(100_000 + n, 1 << 40)).await;
    }
    assert_eq!(host.order(run(1, 1, &[1])).await.failure, None);
    assert_eq!(host.order(destroy(1, 2)).await.failure, None);
    drop(gate);
}

/// The second one of a volume is behind what others wait for first, whenever it came.
#[tokio::test]
async fn a_volume_has_one_snapshot_taken_at_a_time_and_others_are_taken_beside_it() {
    let store = Arc::new(Recorder::default());
    let kept = store.clone();
    let mut host = Host::with(|deps| deps.snapshots = kept).await;
    let gate = store.gate.lock().await;
    for n in 1..=3 {
        host.send_as(n, taking(n, 7)).await;
    }
    host.send_as(4, taking(4, 8)).await;
    let name_of = |n: u64| format!("{}.copy", SnapshotId::new(n));
    let begun = async {
        while store.takes.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    let begun = tokio::time::timeout(Duration::from_secs(20), begun).await;
    begun.expect("there are two places");
    let begun: Vec<String> = store
        .takes
        .lock()
        .unwrap()
        .iter()
        .map(|(disk, _)| disk.clone())
        .collect();
    assert!(begun.len() == 2 && begun.contains(&name_of(4)), "{begun:?}");
    drop(gate);
    host.all_taken(4).await;
    assert_eq!(store.takes.lock().unwrap().len(), 4);
}

/// Whoever waits for a volume that somebody else has does so without a place.
#[tokio::test]
async fn a_snapshot_that_waits_for_its_volume_keeps_no_place() {
    let store = Arc::new(Recorder::default());
    let kept = store.clone();
    let mut host = Host::with(|deps| deps.snapshots = kept).await;
    // As while something long is done with both, which are as many as there are places.
    let turns = host.worker.volumes.turns([7, 8].map(VolumeId::new)).await;
    for n in [7, 8] {
        host.send_as(n, taking(n, n)).await;
    }
    host.send_as(9, taking(9, 9)).await;
    assert_eq!(host.snapshots_done(OperationId::new(9)).await.failure, None);
    drop(turns);
    assert_eq!(store.takes.lock().unwrap().len(), 1);
    host.all_taken(2).await;
}

#[tokio::test]
async fn a_deletion_that_is_sent_again_while_it_waits_is_known() {
    let mut host = Host::start().await;
    let volume = data(1, 1).volume;
    let turn = host.worker.volumes.turns([volume]).await;
    let delete = Action::DeleteVolume {
        store: VolumeStore::Local,
        volume,
        generation: 1,
    };
    for _ in 0..many() {
        host.send_as(77, delete.clone()).await;
    }
    host.until_repeated(many() - 1).await;
    assert_eq!(host.order(run(1, 1, &[1])).await.failure, None);
    drop(turn);
    let done = host.until(|content| match content {
        ReportContent::VolumeDone(done) => Some(done),
        _ => None,
    });
    assert_eq!(done.await.failure, None);
    // When it has been done, it is done again.
    while !host.worker.deletions.is_idle() {
        tokio::task::yield_now().await;
    }
    host.send_as(77, delete).await;
    let again = host.until(|content| matches!(content, ReportContent::VolumeDone(_)).then_some(()));
    again.await;
}

/// Of an instance that is busy for hours, metadata came again every few seconds.
#[tokio::test]
async fn of_metadata_that_waits_the_newest_is_all_there_is() {
    let mut host = Host::start().await;
    host.hypervisor.set_plan(FaultPlan {
        hang: [instance(1)].into(),
        ..FaultPlan::default()
    });
    host.send(run(1, 1, &[1, 2])).await;
    while host.worker.slots.record(instance(1)).is_none() {
        tokio::task::yield_now().await;
    }
    let newest = many() + 1;
    for revision in std::iter::once(newest).chain(1..many()) {
        host.send_as(revision, Action::Metadata(Arc::new(metadata(1, revision))))
            .await;
    }
    assert_eq!(host.order(run(2, 1, &[1, 2])).await.failure, None);
    host.hypervisor.set_plan(FaultPlan::default());
    let applied = host.until(|content| match content {
        ReportContent::MetadataApplied {
            instance: of,
            revision,
        } if of == instance(1) => Some(revision),
        _ => None,
    });
    assert_eq!(applied.await, newest);
}

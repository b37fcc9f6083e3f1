//! Volumes: deleted for good, never out of a guest's hands, and never by a command that comes late.

use std::path::PathBuf;

use cumulet_domain::{
    id::VolumeId,
    message::{Change, VolumeOutcome},
    spec::{DiskSource, DiskSpec, InstanceSpec},
    volume::VolumeStore,
};
use cumulet_hypervisor::fake::FaultPlan;

use super::*;
use crate::testing::data;

/// Instance `n` with volume 1 at a generation of its own, or without it.
fn with(n: u8, generation: u64, volume: Option<u64>) -> Action {
    let mut spec = spec(n, generation);
    spec.disks.extend(volume.map(|of| DiskSpec {
        source: match data(1, 3).source {
            DiskSource::Volume {
                store,
                format,
                create,
                ..
            } => DiskSource::Volume {
                store,
                format,
                create,
                generation: of,
                from: None,
            },
            image => image,
        },
        ..data(1, 3)
    }));
    Action::Run {
        spec: Box::new(spec),
        policy: Arc::new(policy(generation, &[1, 2])),
    }
}

fn delete(generation: u64) -> Action {
    Action::DeleteVolume {
        store: VolumeStore::Local,
        volume: volume(),
        generation,
    }
}

fn volume() -> VolumeId {
    data(1, 1).volume
}

fn outcome(operation: OperationId, failure: Option<String>) -> VolumeOutcome {
    VolumeOutcome {
        operation,
        volume: volume(),
        failure,
        permanent: false,
    }
}

impl Host {
    /// The volume's file, which simulated disks don't make.
    fn file(&self) -> PathBuf {
        let name = format!("{}.qcow2", volume());
        self.dir.path().join("hosts/one/volumes").join(name)
    }

    async fn volume_done(&mut self, operation: OperationId) -> VolumeOutcome {
        self.until(|content| match content {
            ReportContent::VolumeDone(done) if done.operation == operation => Some(done),
            _ => None,
        })
        .await
    }

    async fn delete(&mut self, generation: u64) -> (OperationId, VolumeOutcome) {
        let operation = self.send(delete(generation)).await;
        (operation, self.volume_done(operation).await)
    }

    /// Waits until instance 1 is noted at a generation.
    async fn begun(&self, generation: u64) {
        let path = self.dir.path().join("hosts/one/instances");
        let path = path.join(instance(1).to_string()).join("spec.json");
        let noted = || serde_json::from_slice::<InstanceSpec>(&std::fs::read(&path).unwrap()).unwrap();
        while noted().generation < generation {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a command was dropped as out of date, in the `count`th place.
    async fn dropped(&self, count: u64) {
        while self.worker.counters().read().0 < count {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_volume_is_deleted_and_does_not_come_back() {
    let mut host = Host::start().await;
    for (generation, volume) in [(1, Some(1)), (2, None)] {
        assert_eq!(host.order(with(1, generation, volume)).await.failure, None);
    }
    std::fs::write(host.file(), "data").unwrap();
    // As often as it is said, also by a worker that has come back.
    for _ in 0..2 {
        let (operation, done) = host.delete(3).await;
        assert_eq!(done, outcome(operation, None));
        assert!(!host.file().exists());
    }
    host.die_and_come_back().await;
    let (operation, done) = host.delete(3).await;
    assert_eq!(done, outcome(operation, None));
    // Who asks for it now was told of it before it went.
    for (generation, of) in [(3, 1), (4, 3), (5, 0)] {
        let done = host.order(with(1, generation, Some(of))).await;
        let failure = format!("{} has been deleted on this host", volume());
        assert_eq!((done.failure, done.permanent), (Some(failure), true), "{of}");
    }
}

#[tokio::test]
async fn what_a_guest_has_in_hands_is_neither_deleted_nor_given_to_another() {
    let mut host = Host::start().await;
    host.order(with(1, 1, Some(1))).await;
    std::fs::write(host.file(), "data").unwrap();
    let (operation, done) = host.delete(2).await;
    let failure = format!("{} has {} in use", instance(1), volume());
    assert_eq!(done, outcome(operation, Some(failure)));
    assert!(host.file().exists());
    let done = host.order(with(2, 1, Some(1))).await;
    let failure = format!("{} has not let go of {} yet", instance(1), volume());
    assert_eq!((done.failure, done.permanent), (Some(failure), false));
    // What a guest that is off was last started with is nobody's.
    host.order(stop(1, 2)).await;
    assert_eq!(host.order(with(2, 2, Some(1))).await.failure, None);
    host.order(stop(2, 3)).await;
    let (operation, done) = host.delete(2).await;
    assert_eq!(done, outcome(operation, None));
    assert!(!host.file().exists());
}

#[tokio::test]
async fn a_deletion_that_comes_late_deletes_nothing() {
    let mut host = Host::start().await;
    host.order(with(1, 1, Some(5))).await;
    host.order(stop(1, 2)).await;
    std::fs::write(host.file(), "data").unwrap();
    host.send(delete(4)).await;
    host.dropped(1).await;
    // Nor after the worker has come back.
    host.die_and_come_back().await;
    host.send(delete(4)).await;
    host.dropped(1).await;
    let command = Command {
        operation: None,
        deadline: Timestamp(1),
        action: delete(9),
        keys: Vec::new(),
        storage: None,
    };
    host.bus.send(&name(), command).await.unwrap();
    while host.worker.counters().read().1 < 1 {
        tokio::task::yield_now().await;
    }
    assert!(host.file().exists());
    // Nor does a run of before.
    let done = host.order(with(2, 1, Some(4))).await;
    let failure = format!("something newer has been done with {}", volume());
    assert_eq!((done.failure, done.permanent), (Some(failure), false));
    let (operation, done) = host.delete(5).await;
    assert_eq!(done, outcome(operation, None));
    assert!(!host.file().exists());
}

/// A run that is under way has the volume's turn until its guest has the volume.
#[tokio::test]
async fn a_deletion_waits_for_the_guest_that_is_getting_the_volume() {
    let mut host = Host::start().await;
    host.order(with(1, 1, None)).await;
    host.hypervisor.set_plan(FaultPlan {
        latency_min: Duration::from_millis(200),
        latency_max: Duration::from_millis(200),
        ..FaultPlan::default()
    });
    host.send(with(1, 2, Some(1))).await;
    while !host.worker.volumes.is_busy(volume()) {
        tokio::task::yield_now().await;
    }
    let deletion = host.send(delete(1)).await;
    let failure = format!("{} has {} in use", instance(1), volume());
    assert_eq!(host.volume_done(deletion).await, outcome(deletion, Some(failure)));
}

#[tokio::test(start_paused = true)]
async fn a_hypervisor_that_does_not_answer_is_asked_again() {
    let mut host = Host::start().await;
    std::fs::write(host.file(), "data").unwrap();
    host.hypervisor.set_plan(FaultPlan {
        look_latency: Duration::from_secs(3600),
        ..FaultPlan::default()
    });
    let operation = host.send(delete(1)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(host.file().exists(), "it is not known whether a guest has it");
    host.hypervisor.set_plan(FaultPlan::default());
    assert_eq!(host.volume_done(operation).await, outcome(operation, None));
    assert!(!host.file().exists());
}

#[tokio::test]
async fn the_inventory_has_files_and_what_guests_have_in_hands() {
    let mut host = Host::start().await;
    host.order(with(1, 1, Some(1))).await;
    std::fs::write(host.file(), "data").unwrap();
    std::fs::write(host.file().with_extension("new"), "").unwrap();
    let listed = async |host: &Host| {
        let all = host.worker.inventory().await.unwrap();
        let of_volumes = all.into_iter().filter(|object| object.volume == Some(volume()));
        of_volumes
            .map(|object| (object.kind, object.instance))
            .collect::<Vec<_>>()
    };
    let (file, partial) = ((ObjectKind::Volume, None), (ObjectKind::PartialVolume, None));
    let plugged = (ObjectKind::Plugged, Some(instance(1)));
    let mut all = vec![file, partial, plugged];
    all.sort_by_key(|(kind, _)| *kind);
    assert_eq!(listed(&host).await, all);
    host.order(destroy(1, 2)).await;
    assert_eq!(listed(&host).await, [file, partial]);
    host.die_and_come_back().await;
    assert_eq!(listed(&host).await, [file], "what was half made is gone");
}

/// Instance 1's guest, if it runs, with volume 1 or without it.
fn change(generation: u64, volume: Option<u64>) -> Action {
    let Action::Run { spec, policy } = with(1, generation, volume) else {
        unreachable!()
    };
    let what = match volume {
        Some(_) => Change::AttachVolume,
        None => Change::DetachVolume,
    };
    Action::Change { spec, policy, what }
}

#[tokio::test]
async fn a_guest_that_runs_gets_and_loses_a_volume_and_one_that_is_off_stays_off() {
    let mut host = Host::start().await;
    host.order(with(1, 1, None)).await;
    for (generation, volume) in [(2, Some(1)), (3, None), (4, Some(2))] {
        // Once more where the first answer was lost.
        for _ in 0..2 {
            let done = host.order(change(generation, volume)).await;
            let on = report(1, generation, Power::On, None);
            assert_eq!((done.failure, done.report), (None, on));
        }
        let open = host.hypervisor.open_disks().await.unwrap();
        let has = open
            .iter()
            .any(|(_, path)| *path == host.file().canonicalize().unwrap_or(host.file()));
        assert_eq!(has, volume.is_some());
    }
    host.order(stop(1, 5)).await;
    let done = host.order(change(6, None)).await;
    assert_eq!(done.failure.as_deref(), Some("the instance does not run"));
    assert_eq!((done.report.power, done.report.generation), (Power::Off, 6));
    assert_eq!(host.power(1).await, Power::Off);
    // Nor is it started where nothing is known of it.
    let done = host.order(change(7, None)).await;
    assert_eq!(done.failure.as_deref(), Some("the instance does not run"));
    host.order(destroy(1, 8)).await;
    host.send(change(7, None)).await;
    host.dropped(1).await;
    assert_eq!(host.power(1).await, Power::Absent);
}

/// The guest goes off while it is being changed: nothing starts it again.
#[tokio::test]
async fn a_guest_that_goes_off_meanwhile_is_not_started() {
    let mut host = Host::start().await;
    host.order(with(1, 1, None)).await;
    host.hypervisor.set_plan(FaultPlan {
        look_latency: Duration::from_millis(100),
        ..FaultPlan::default()
    });
    let operation = host.send(change(2, Some(1))).await;
    host.begun(2).await;
    host.hypervisor
        .ensure_off(instance(1), Duration::ZERO)
        .await
        .unwrap();
    let done = host.outcome(operation).await;
    assert_eq!(done.failure.as_deref(), Some("the instance does not run"));
    assert_eq!((done.report.power, host.power(1).await), (Power::Off, Power::Off));
}

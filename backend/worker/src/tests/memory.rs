//! A worker whose files are in memory: it uses no other thread, and dies as a process would, with all that it does.

use std::{sync::Arc, time::Duration};

use cumulet_bus::{Bus as _, LocalBus, ReportMailbox};
use cumulet_domain::{
    message::{Action, Command, Outcome, Power, ReportContent},
    time::{Clock as _, ManualClock, Timestamp},
};
use cumulet_hypervisor::{
    Hypervisor as _,
    fake::{FakeConfig, FakeHypervisor, FaultPlan},
};
use tokio::{sync::watch, task::JoinHandle};

use super::{Sink, destroy, name, run, stop};
use crate::{
    FixedMetrics, HostFiles as _, MemoryDisks, MemoryFiles, Task, Tasks, Worker, WorkerConfig, WorkerDeps,
    network::FakeHostNetwork, testing::instance,
};

/// Tasks that all end when that is said.
struct Mortal(watch::Sender<bool>);

impl Tasks for Mortal {
    fn within(&self, task: Task) -> Task {
        let mut dead = self.0.subscribe();
        Box::pin(async move {
            tokio::select! {
                biased;
                _ = dead.wait_for(|dead| *dead) => {}
                () = task => {}
            }
        })
    }
}

/// A host in memory, and the conductor's end of the bus.
struct Host {
    files: MemoryFiles,
    bus: LocalBus,
    reports: ReportMailbox,
    clock: Arc<ManualClock>,
    hypervisor: Arc<FakeHypervisor>,
    network: Arc<FakeHostNetwork>,
}

impl Host {
    async fn new() -> Host {
        let bus = LocalBus::new();
        Host {
            reports: bus.report_mailbox().await.unwrap(),
            bus,
            files: MemoryFiles::new(),
            clock: Arc::new(ManualClock::new(Timestamp(1_000_000))),
            hypervisor: FakeHypervisor::new(FakeConfig::default()).unwrap(),
            network: Arc::new(FakeHostNetwork::new()),
        }
    }

    /// Another life of the worker, with what is in the files.
    fn live(&self) -> (Arc<Mortal>, JoinHandle<()>) {
        let tasks = Arc::new(Mortal(watch::Sender::new(false)));
        let disks = Arc::new(MemoryDisks::new(self.files.clone(), 100));
        let deps = WorkerDeps {
            bus: Arc::new(self.bus.clone()),
            clock: self.clock.clone(),
            hypervisor: self.hypervisor.clone(),
            files: Arc::new(self.files.clone()),
            tasks: tasks.clone(),
            network: self.network.clone(),
            disks: disks.clone(),
            images: disks.clone(),
            snapshots: disks,
            grants: crate::remote::Grants::unneeded(),
            rng: cumulet_domain::rng::SharedRng::seeded(7),
            metadata: Arc::new(Sink::default()),
            metrics: Arc::new(FixedMetrics::default()),
        };
        let worker = Worker::new(WorkerConfig::new(name(), "/", "us-east-1a"), deps).unwrap();
        let life = tasks.within(Box::pin(async move {
            let (_stop, stopped) = watch::channel(false);
            worker.run(stopped).await.unwrap();
        }));
        (tasks, tokio::spawn(life))
    }

    async fn send(&self, action: Action) {
        let command = Command {
            operation: Some(cumulet_domain::id::OperationId::new(1)),
            deadline: self.clock.now().after(Duration::from_secs(300)),
            action,
            keys: Vec::new(),
            storage: None,
        };
        self.bus.send(&name(), command).await.unwrap();
    }

    async fn until<T>(&mut self, mut wanted: impl FnMut(ReportContent) -> Option<T>) -> T {
        loop {
            let report = self.reports.next().await.expect("the bus closed").accept();
            if let Some(found) = wanted(report.content) {
                return found;
            }
        }
    }

    async fn is_up(&mut self) {
        self.until(|content| matches!(content, ReportContent::Full(_)).then_some(()))
            .await;
    }

    async fn outcome(&mut self) -> Outcome {
        self.until(|content| match content {
            ReportContent::Done(done) => Some(done),
            _ => None,
        })
        .await
    }

    async fn obeys(&mut self, action: Action) -> Power {
        self.send(action).await;
        let Outcome { report, failure, .. } = self.outcome().await;
        assert_eq!(failure, None);
        report.power
    }

    fn names(&self, dir: &str) -> Vec<String> {
        self.files.names(format!("/hosts/one/{dir}").as_ref()).unwrap()
    }
}

/// A launch, a stop and an end, in a runtime whose only thread for what blocks is taken: who asks for it hangs.
#[test]
fn a_whole_life_needs_no_other_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (free, taken) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || taken.recv());
    let life = async {
        let mut host = Host::new().await;
        let (_tasks, _life) = host.live();
        host.is_up().await;
        assert_eq!(host.obeys(run(1, 1, &[1])).await, Power::On);
        let id = instance(1).to_string();
        assert_eq!(host.names("instances"), std::slice::from_ref(&id));
        let mut has = host.names(&format!("instances/{id}"));
        has.sort();
        assert_eq!(has, ["disk.qcow2", "record.json", "spec.json"]);
        assert_eq!((host.names("cache").len(), host.names("vpcs").len()), (1, 1));
        assert_eq!(host.obeys(stop(1, 2)).await, Power::Off);
        assert_eq!(host.obeys(destroy(1, 3)).await, Power::Absent);
        assert_eq!((host.names("instances"), host.names("vpcs")), (vec![], vec![]));
    };
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), life).await })
        .expect("something waits for a thread");
    drop(free);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_dead_worker_had_begun_goes_on_and_the_next_one_goes_on_with_it() {
    let mut host = Host::new().await;
    let (tasks, life) = host.live();
    host.is_up().await;
    host.hypervisor.set_plan(FaultPlan {
        hang: [instance(1)].into(),
        ..FaultPlan::default()
    });
    host.send(run(1, 1, &[1])).await;
    // Its notes are written, and the guest's process does not come.
    while host.names("instances").is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tasks.0.send_replace(true);
    life.await.unwrap();
    host.hypervisor.set_plan(FaultPlan::default());
    tokio::time::sleep(Duration::from_secs(120)).await;
    let guest = host.hypervisor.status(instance(1)).await.unwrap();
    assert!(guest.power == Power::Absent || guest.paused, "{guest:?}");
    let (_tasks, _life) = host.live();
    assert_eq!(host.outcome().await.report.power, Power::On);
    let guest = host.hypervisor.status(instance(1)).await.unwrap();
    assert!(guest.power == Power::On && !guest.paused, "{guest:?}");
}

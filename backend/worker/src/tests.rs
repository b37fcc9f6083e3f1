//! The whole worker over a simulated host: the host, and the conductor's end of the bus.

mod away;
mod cases;
mod consoles;
mod copies;
mod devices;
mod heartbeats;
mod intake;
mod kept_roots;
mod keys;
mod memory;
mod order;
mod pool;
mod slow;
mod snapshots;
mod upgrade;
mod volumes;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cumulet_bus::{Bus, LocalBus, ReportMailbox};
use cumulet_domain::{
    id::{HostId, InstanceId, OperationId, VpcId},
    message::{Action, Command, Heartbeat, InstanceReport, OffReason, Outcome, Power, ReportContent},
    metadata::InstanceMetadata,
    rng::SharedRng,
    time::{Clock as _, ManualClock, Timestamp},
};
use cumulet_hypervisor::{
    Hypervisor as _,
    fake::{FakeConfig, FakeHypervisor},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    DiskFiles, FixedMetrics, Free, MetadataSink, ObjectKind, Worker, WorkerConfig, WorkerDeps,
    disks::FakeDisks,
    image_cache::DirectoryImages,
    network::{FakeHostNetwork, HostNetwork},
    testing::{VPC, instance, policy, spec},
};

/// Keeps snapshots and serves nobody.
#[derive(Default)]
struct Sink(Mutex<BTreeMap<InstanceId, u64>>);

impl MetadataSink for Sink {
    fn put(&self, snapshot: &InstanceMetadata) {
        let mut revisions = self.0.lock().unwrap();
        let revision = revisions.entry(snapshot.instance).or_default();
        *revision = snapshot.revision.max(*revision);
    }
    fn remove(&self, instance: InstanceId) {
        self.0.lock().unwrap().remove(&instance);
    }
    fn serve(&self, _: VpcId, _: TcpListener) -> Result<(), String> {
        Ok(())
    }
    fn stop(&self, _: VpcId) {}
    fn registered(&self) -> Vec<InstanceId> {
        self.0.lock().unwrap().keys().copied().collect()
    }
}

/// A host, and the conductor's end of the bus.
struct Host {
    dir: tempfile::TempDir,
    bus: LocalBus,
    reports: ReportMailbox,
    clock: Arc<ManualClock>,
    hypervisor: Arc<FakeHypervisor>,
    network: Arc<FakeHostNetwork>,
    sink: Arc<Sink>,
    worker: Arc<Worker>,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
    operations: u64,
}

fn name() -> HostId {
    HostId("one".into())
}

impl Host {
    async fn start() -> Host {
        let dir = tempfile::tempdir().unwrap();
        let bus = LocalBus::new();
        let reports = bus.report_mailbox().await.unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let hypervisor = FakeHypervisor::new(FakeConfig::default()).unwrap();
        let network = Arc::new(FakeHostNetwork::new());
        let sink = Arc::new(Sink::default());
        let worker = make(&dir, &bus, &clock, &hypervisor, &network, &sink);
        let mut host = Host {
            dir,
            bus,
            reports,
            clock,
            hypervisor,
            network,
            sink,
            worker,
            running: None,
            operations: 0,
        };
        host.run().await;
        host
    }

    async fn run(&mut self) {
        self.spawn();
        self.heard().await;
    }

    fn spawn(&mut self) {
        let (stop, stopped) = watch::channel(false);
        let worker = self.worker.clone();
        let task = tokio::spawn(async move { worker.run(stopped).await.unwrap() });
        self.running = Some((stop, task));
    }

    /// Waits until the worker has told of everything.
    async fn heard(&mut self) {
        self.until(|c| matches!(c, ReportContent::Full(_)).then_some(()))
            .await;
    }

    async fn kill(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
            drop(task.await);
        }
    }

    /// The process dies and comes back: what it held is gone, the guests are there.
    async fn die_and_come_back(&mut self) {
        self.kill().await;
        self.network = Arc::new(FakeHostNetwork::new());
        self.sink = Arc::new(Sink::default());
        self.worker = self.another_worker();
        self.run().await;
    }

    /// A worker with what is in the host's files.
    fn another_worker(&self) -> Arc<Worker> {
        make(
            &self.dir,
            &self.bus,
            &self.clock,
            &self.hypervisor,
            &self.network,
            &self.sink,
        )
    }

    async fn until<T>(&mut self, mut wanted: impl FnMut(ReportContent) -> Option<T>) -> T {
        let found = async {
            loop {
                let report = self.reports.next().await.expect("the bus closed").accept();
                if let Some(found) = wanted(report.content) {
                    return found;
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), found).await;
        waited.expect("no such report came")
    }

    async fn send(&mut self, action: Action) -> OperationId {
        self.operations += 1;
        let operation = OperationId::new(self.operations);
        let command = Command {
            operation: Some(operation),
            deadline: self.clock.now().after(Duration::from_secs(300)),
            action,
            keys: Vec::new(),
            storage: None,
        };
        self.bus.send(&name(), command).await.unwrap();
        operation
    }

    async fn order(&mut self, action: Action) -> Outcome {
        let operation = self.send(action).await;
        self.outcome(operation).await
    }

    async fn outcome(&mut self, operation: OperationId) -> Outcome {
        self.until(|c| match c {
            ReportContent::Done(done) if done.operation == operation => Some(done),
            _ => None,
        })
        .await
    }

    async fn changed(&mut self) -> InstanceReport {
        self.until(|c| match c {
            ReportContent::Changed(report) => Some(report),
            _ => None,
        })
        .await
    }

    /// What has been reported so far is not looked at.
    async fn forget_reports(&mut self) {
        while let Ok(Some(old)) = tokio::time::timeout(Duration::from_millis(1), self.reports.next()).await {
            old.ack();
        }
    }

    async fn full(&mut self) -> Vec<InstanceReport> {
        self.forget_reports().await;
        self.send(Action::ReportAll).await;
        self.until(|c| match c {
            ReportContent::Full(reports) => Some(reports),
            _ => None,
        })
        .await
    }

    async fn power(&self, n: u8) -> Power {
        self.hypervisor.status(instance(n)).await.unwrap().power
    }
}

fn make(
    dir: &tempfile::TempDir,
    bus: &(impl Bus + Clone + 'static),
    clock: &Arc<ManualClock>,
    hypervisor: &Arc<FakeHypervisor>,
    network: &Arc<impl HostNetwork>,
    sink: &Arc<Sink>,
) -> Arc<Worker> {
    // No process has the keys of another.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let config = WorkerConfig::new(name(), dir.path(), "us-east-1a");
    let deps = WorkerDeps {
        bus: Arc::new(bus.clone()),
        clock: clock.clone(),
        hypervisor: hypervisor.clone(),
        files: Arc::new(DiskFiles),
        tasks: Arc::new(Free),
        network: network.clone(),
        disks: Arc::new(FakeDisks::default()),
        images: Arc::new(DirectoryImages::new(dir.path())),
        snapshots: Arc::new(crate::snapshots::NoSnapshots),
        grants: crate::remote::Grants::unneeded(),
        rng: SharedRng::seeded(NEXT.fetch_add(1, Ordering::Relaxed)),
        metadata: sink.clone(),
        metrics: Arc::new(FixedMetrics([("cpu.percent".to_owned(), 7)].into())),
    };
    Worker::new(config, deps).unwrap()
}

fn run(n: u8, generation: u64, interfaces: &[u8]) -> Action {
    Action::Run {
        spec: Box::new(spec(n, generation)),
        policy: Arc::new(policy(generation, interfaces)),
    }
}

fn stop(n: u8, generation: u64) -> Action {
    Action::Stop {
        instance: instance(n),
        generation,
        force: false,
    }
}

fn destroy(n: u8, generation: u64) -> Action {
    Action::Destroy {
        kept: None,
        instance: instance(n),
        generation,
    }
}

fn report(n: u8, generation: u64, power: Power, off_reason: Option<OffReason>) -> InstanceReport {
    InstanceReport {
        instance: instance(n),
        generation,
        power,
        off_reason,
    }
}

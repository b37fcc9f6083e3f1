//! A hypervisor that is slow: from the start, for a while, and for good.

use std::{io, path::Path};

use async_trait::async_trait;
use cumulet_domain::{host::NotReady, spec::DiskSource, time::Clock};
use cumulet_hypervisor::fake::FaultPlan;
use tokio::time::{Instant, sleep};

use super::*;
use crate::disks::{DiskFile, Disks, May};

const SECOND: Duration = Duration::from_secs(1);

/// A clock that goes with the test's time.
struct Going(Instant);

impl Clock for Going {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000).after(self.0.elapsed())
    }
}

/// Only what changes guests is slow; looks are not.
fn slow_acts(latency: Duration) -> FaultPlan {
    FaultPlan {
        look_latency: Duration::ZERO,
        ..FaultPlan::slow(latency)
    }
}

impl Host {
    /// A host with a clock that goes, and a worker that has just been started.
    pub(super) async fn going(plan: FaultPlan, change: impl FnOnce(&mut WorkerDeps)) -> Host {
        let mut host = Host::start().await;
        host.kill().await;
        host.forget_reports().await;
        let (dir, bus, clock) = (&host.dir, &host.bus, &host.clock);
        host.worker = make(dir, bus, clock, &host.hypervisor, &host.network, &host.sink);
        let deps = &mut Arc::get_mut(&mut host.worker).unwrap().deps;
        deps.clock = Arc::new(Going(Instant::now()));
        change(deps);
        host.hypervisor.set_plan(plan);
        host.spawn();
        host
    }

    /// The same, ready.
    async fn ready() -> Host {
        let mut host = Host::going(FaultPlan::default(), |_| ()).await;
        host.until_ready(true).await;
        host.heard().await;
        host
    }

    /// Waits for as long as an operation may take, and longer.
    async fn late<T>(&mut self, mut wanted: impl FnMut(ReportContent) -> Option<T>) -> T {
        let found = async {
            loop {
                let report = self.reports.next().await.expect("the bus closed").accept();
                if let Some(found) = wanted(report.content) {
                    return found;
                }
            }
        };
        let waited = tokio::time::timeout(400 * SECOND, found).await;
        waited.expect("no such report came")
    }

    pub(super) async fn until_ready(&mut self, ready: bool) -> Heartbeat {
        self.late(|c| match c {
            ReportContent::Heartbeat(heartbeat) if heartbeat.not_ready.is_none() == ready => Some(*heartbeat),
            _ => None,
        })
        .await
    }

    /// Waits until the host is not ready for this reason.
    async fn until_reason(&mut self, text: &str) -> NotReady {
        self.late(|c| match c {
            ReportContent::Heartbeat(heartbeat) => {
                heartbeat.not_ready.filter(|told| told.reason.contains(text))
            }
            _ => None,
        })
        .await
    }

    async fn late_outcome(&mut self, operation: OperationId) -> Outcome {
        self.late(|c| match c {
            ReportContent::Done(done) if done.operation == operation => Some(done),
            _ => None,
        })
        .await
    }

    /// The hypervisor is quick again after a while.
    fn quick_after(&self, time: Duration) -> JoinHandle<()> {
        let hypervisor = self.hypervisor.clone();
        tokio::spawn(async move {
            sleep(time).await;
            hypervisor.set_plan(FaultPlan::default());
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_slow_from_the_start_says_so_at_once_and_recovers_by_itself() {
    let began = Instant::now();
    let mut host = Host::going(FaultPlan::slow(31 * SECOND), |_| ()).await;
    let first = host.until_ready(false).await;
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    assert_eq!(first.resources, cumulet_domain::message::HostResources::default());
    let reason = first.not_ready.unwrap().reason;
    assert_eq!(
        reason,
        "the simulated hypervisor has not answered its first call yet"
    );
    let told = host
        .until_reason("takes more than 15 s for a call: its plan says so")
        .await;
    assert_eq!(told.cure.as_deref(), Some("wait"));
    host.until_reason("takes 31 s for a call: its plan").await;
    assert!(began.elapsed() < 40 * SECOND, "{:?}", began.elapsed());
    let quick = Instant::now();
    host.hypervisor.set_plan(FaultPlan::default());
    let heartbeat = host.until_ready(true).await;
    assert!(quick.elapsed() < 6 * SECOND, "{:?}", quick.elapsed());
    assert!(heartbeat.resources.vcpus > 0 && heartbeat.profile.is_some());
    // It has found its guests meanwhile, and works.
    assert_eq!(host.order(run(1, 1, &[1])).await.failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_becomes_slow_says_so_within_the_threshold_and_a_beat() {
    let mut host = Host::ready().await;
    let began = Instant::now();
    host.hypervisor.set_plan(FaultPlan::slow(20 * SECOND));
    host.until_reason("takes more than 15 s").await;
    assert!(began.elapsed() <= 21 * SECOND, "{:?}", began.elapsed());
    host.hypervisor.set_plan(FaultPlan::slow(5 * SECOND));
    host.until_ready(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_launch_is_delayed_by_a_hypervisor_that_is_slow_for_a_while() {
    // Everything is slow, or only what changes guests: then the guest itself is what comes late.
    for plan in [FaultPlan::slow(60 * SECOND), slow_acts(60 * SECOND)] {
        let mut host = Host::ready().await;
        host.hypervisor.set_plan(plan);
        let began = Instant::now();
        let launch = host.send(run(1, 1, &[1])).await;
        drop(host.quick_after(200 * SECOND));
        let done = host.late_outcome(launch).await;
        assert_eq!((done.failure, done.report), (None, report(1, 1, Power::On, None)));
        assert!(began.elapsed() > 60 * SECOND && began.elapsed() < 220 * SECOND);
        assert!(!host.hypervisor.status(instance(1)).await.unwrap().paused);
    }
}

#[tokio::test(start_paused = true)]
async fn every_command_outlasts_a_call_that_is_late() {
    let mut host = Host::ready().await;
    let reboot = |generation| Action::Reboot {
        instance: instance(1),
        generation,
    };
    for (generation, action) in [
        run(1, 1, &[1]),
        reboot(2),
        stop(1, 3),
        run(1, 4, &[1]),
        destroy(1, 5),
    ]
    .into_iter()
    .enumerate()
    {
        // Each call takes longer than it is waited for, and not for ever.
        host.hypervisor.set_plan(slow_acts(50 * SECOND));
        let (began, quick) = (Instant::now(), host.quick_after(120 * SECOND));
        let operation = host.send(action).await;
        let done = host.late_outcome(operation).await;
        assert_eq!(done.failure, None, "{generation}");
        assert!(began.elapsed() >= 50 * SECOND && began.elapsed() < 130 * SECOND);
        quick.await.unwrap();
        host.clock.advance(began.elapsed());
    }
    assert_eq!(host.worker.inventory().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_slow_for_good_ends_at_the_deadline_with_the_reason() {
    let mut host = Host::ready().await;
    host.hypervisor.set_plan(FaultPlan::slow(10_000 * SECOND));
    let began = Instant::now();
    let launch = host.send(run(1, 1, &[1])).await;
    let done = host.late_outcome(launch).await;
    assert!(began.elapsed() > 280 * SECOND, "{:?}", began.elapsed());
    let reason = done.failure.unwrap();
    let (first, rest) = reason.split_once("; ").unwrap();
    assert!(
        first.starts_with("the simulated hypervisor takes more than "),
        "{reason}"
    );
    assert!(rest.contains("hypervisor"), "{reason}");
    assert!(!done.permanent && !reason.contains("hang"));
}

#[tokio::test(start_paused = true)]
async fn an_end_does_not_wait_for_a_launch_that_is_slow() {
    let mut host = Host::ready().await;
    host.hypervisor.set_plan(slow_acts(100 * SECOND));
    let launch = host.send(run(1, 1, &[1])).await;
    sleep(5 * SECOND).await;
    let end = host.send(destroy(1, 2)).await;
    let began = Instant::now();
    let done = host.late_outcome(launch).await;
    assert_eq!(done.failure.as_deref(), Some("something newer is to be done"));
    assert!(began.elapsed() <= 50 * SECOND, "{:?}", began.elapsed());
    // What the late call starts after that is ended too, and only then it is said.
    let done = host.late_outcome(end).await;
    assert_eq!(
        (done.failure, done.report),
        (None, report(1, 2, Power::Absent, None))
    );
    sleep(300 * SECOND).await;
    assert_eq!(host.power(1).await, Power::Absent);
    host.hypervisor.set_plan(FaultPlan::default());
    assert_eq!(host.worker.inventory().await.unwrap(), []);
}

/// Disks whose program does not end in time, so many times.
struct LateDisks(Mutex<u32>);

#[async_trait]
impl Disks for LateDisks {
    fn uses_images(&self) -> bool {
        true
    }

    async fn ensure(&self, _: &DiskFile<'_>, _: May) -> io::Result<bool> {
        let mut times = self.0.lock().unwrap();
        if *times == 0 {
            return Ok(true);
        }
        *times -= 1;
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "qemu-img did not end in time",
        ))
    }

    async fn make(&self, _: &DiskFile<'_>) -> io::Result<()> {
        Ok(())
    }

    async fn copy(&self, _: &DiskFile<'_>, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn capacity_gib(&self, _: &[std::path::PathBuf]) -> io::Result<u64> {
        Ok(100)
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_late_delays_a_launch_and_one_that_fails_ends_it() {
    let late = Arc::new(LateDisks(Mutex::new(3)));
    let disks = late.clone();
    let mut host = Host::going(FaultPlan::default(), |deps| deps.disks = disks).await;
    host.until_ready(true).await;
    // The image is in the cache already.
    let image = host.worker.cache.path(spec(1, 1).disks[0].image().unwrap());
    std::fs::write(image, b"x").unwrap();
    let done = host.order(run(1, 1, &[1])).await;
    assert_eq!((done.failure, *late.0.lock().unwrap()), (None, 0));
    let mut lost = spec(2, 1);
    if let DiskSource::Image(image) = &mut lost.disks[0].source {
        image.sha256 = "1".repeat(64);
    }
    let lost = Action::Run {
        spec: Box::new(lost),
        policy: Arc::new(policy(2, &[1, 2])),
    };
    let began = Instant::now();
    let failure = host.order(lost).await.failure.unwrap();
    assert!(
        failure.contains("can't be fetched") && began.elapsed() < SECOND,
        "{failure}"
    );
}

//! What of a launch happens at the same time, and what must not.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cumulet_domain::{
    id::{NetworkInterfaceId, VpcId},
    message::{Action, Power, ReportContent},
    network::VpcPolicy,
};
use cumulet_hypervisor::{
    Hypervisor as _,
    fake::{FakeHypervisor, FaultPlan},
};
use tokio::time::{Instant, sleep};

use super::{Host, destroy, make, run};
use crate::{
    network::{Applied, FakeHostNetwork, HostNetwork, Inventory, NetworkError, Result},
    testing::{instance, policy, spec},
};

const STEP: Duration = Duration::from_secs(1);

/// A host network that takes its time, and notes when it was asked for what and how the guest was then.
struct Slow {
    inner: FakeHostNetwork,
    guests: Arc<FakeHypervisor>,
    seen: Mutex<Vec<(&'static str, Power, bool)>>,
    /// How often making the VPC fails, and how.
    failures: Mutex<u32>,
    failure: fn() -> NetworkError,
}

impl Slow {
    async fn note(&self, what: &'static str) {
        let guest = self.guests.status(instance(1)).await.unwrap();
        self.seen.lock().unwrap().push((what, guest.power, guest.paused));
        sleep(STEP).await;
    }

    fn fails(&self) -> bool {
        let mut failures = self.failures.lock().unwrap();
        let fails = *failures > 0;
        *failures = failures.saturating_sub(1);
        fails
    }
}

#[async_trait]
impl HostNetwork for Slow {
    async fn prepare_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<String> {
        self.inner.prepare_interface(vpc, interface).await
    }
    async fn attach_interface(&self, policy: &VpcPolicy, interface: NetworkInterfaceId) -> Result<Applied> {
        self.note("attach").await;
        let applied = self.inner.attach_interface(policy, interface).await;
        self.note("attached").await;
        applied
    }
    async fn detach_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<Applied> {
        self.note("detach").await;
        self.inner.detach_interface(vpc, interface).await
    }
    async fn apply(&self, policy: &VpcPolicy) -> Result<Applied> {
        self.note("apply").await;
        if self.fails() {
            return Err((self.failure)());
        }
        self.inner.apply(policy).await
    }
    async fn listener(&self, vpc: VpcId) -> Result<Option<TcpListener>> {
        self.inner.listener(vpc).await
    }
    async fn inventory(&self) -> Result<Inventory> {
        self.inner.inventory().await
    }
    async fn ensure(&self) -> Result<Vec<String>> {
        self.inner.ensure().await
    }
}

fn refused() -> NetworkError {
    NetworkError::Command {
        program: "nft".into(),
        detail: "no".into(),
    }
}

/// A host whose network and guests take their time.
async fn slow(failures: u32, failure: fn() -> NetworkError) -> (Host, Arc<Slow>) {
    let mut host = Host::start().await;
    if let Some((_, task)) = host.running.take() {
        task.abort();
        drop(task.await);
    }
    let slow = Arc::new(Slow {
        inner: FakeHostNetwork::new(),
        guests: host.hypervisor.clone(),
        seen: Mutex::default(),
        failures: Mutex::new(failures),
        failure,
    });
    host.hypervisor.set_plan(FaultPlan {
        latency_min: STEP,
        latency_max: STEP,
        ..FaultPlan::default()
    });
    host.worker = make(
        &host.dir,
        &host.bus,
        &host.clock,
        &host.hypervisor,
        &slow,
        &host.sink,
    );
    host.run().await;
    (host, slow)
}

#[tokio::test(start_paused = true)]
async fn the_vpc_is_made_beside_the_guest_which_runs_when_it_is_attached() {
    let (mut host, slow) = slow(0, refused).await;
    let policy = Arc::new(policy(1, &[1, 2]));
    let order = |n| Action::Run {
        spec: Box::new(spec(n, 1)),
        policy: policy.clone(),
    };
    let began = Instant::now();
    assert_eq!(host.order(order(1)).await.failure, None);
    // Vpc and guest, attach and attached, resume: one more if they followed each other.
    assert!(began.elapsed() < STEP * 9 / 2, "{:?}", began.elapsed());
    let expected = [
        ("apply", Power::Absent, false),
        ("attach", Power::On, true),
        ("attached", Power::On, true),
    ];
    assert_eq!(*slow.seen.lock().unwrap(), expected);
    assert!(!host.hypervisor.status(instance(1)).await.unwrap().paused);
    // The next one that brings the same policy finds it enforced.
    assert_eq!(host.order(order(2)).await.failure, None);
    let applied = slow
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter(|s| s.0 == "apply")
        .count();
    assert_eq!(applied, 1);
}

#[tokio::test(start_paused = true)]
async fn a_guest_without_its_network_does_not_run() {
    let (mut host, slow) = slow(1, refused).await;
    let failure = host.order(run(1, 1, &[1])).await.failure;
    assert!(failure.is_some_and(|f| f.contains("nft")));
    let guest = host.hypervisor.status(instance(1)).await.unwrap();
    assert_eq!((guest.power, guest.paused), (Power::On, true));
    assert_eq!(host.order(run(1, 1, &[1])).await.failure, None);
    assert!(!host.hypervisor.status(instance(1)).await.unwrap().paused);
    assert_eq!(host.order(destroy(1, 2)).await.failure, None);
    assert_eq!(host.worker.inventory().await.unwrap(), []);
    drop(slow);
}

/// A program that did not end in time is run again, by the rule of calls that are late.
#[tokio::test(start_paused = true)]
async fn a_program_that_was_late_is_run_again_and_the_launch_goes_on() {
    let (mut host, slow) = slow(2, || NetworkError::Deadline("nft".into())).await;
    assert_eq!(host.order(run(1, 1, &[1])).await.failure, None);
    assert!(!host.hypervisor.status(instance(1)).await.unwrap().paused);
    let applied = slow
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter(|s| s.0 == "apply")
        .count();
    assert_eq!(applied, 3);
}

/// Nobody tells it again: the copy before was confirmed. It once left the policy's file, and the alarm, for good.
#[tokio::test(start_paused = true)]
async fn a_policy_that_failed_when_it_came_again_is_enforced_by_the_host_itself() {
    let (mut host, slow) = slow(0, refused).await;
    let vpcs = host.dir.path().join("hosts/one/vpcs");
    let kept = || std::fs::read_dir(&vpcs).unwrap().count();
    let none_left = Action::Network(Arc::new(policy(2, &[])));
    host.send(none_left.clone()).await;
    let confirmed = |content| matches!(content, ReportContent::NetworkApplied { .. }).then_some(());
    host.until(confirmed).await;
    assert_eq!((kept(), host.worker.alarms().1), (0, 0));
    *slow.failures.lock().unwrap() = 1;
    host.send(none_left).await;
    while host.worker.alarms().1 == 0 {
        sleep(STEP / 10).await;
    }
    assert_eq!(kept(), 1);
    let began = Instant::now();
    while host.worker.alarms().1 > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is left like that");
        sleep(STEP / 10).await;
    }
    assert_eq!(kept(), 0);
}

/// Its tap once went with what nobody used.
#[tokio::test(start_paused = true)]
async fn a_launch_into_a_vpc_that_is_just_being_taken_away_has_its_interface() {
    let (mut host, slow) = slow(0, refused).await;
    let unused = Arc::new(policy(1, &[1]));
    host.send(Action::Network(unused.clone())).await;
    while !slow.seen.lock().unwrap().iter().any(|seen| seen.0 == "detach") {
        sleep(STEP / 10).await;
    }
    assert_eq!(host.order(run(1, 2, &[1])).await.failure, None);
    let (generation, attached) = &slow.inner.enforced()[&unused.vpc];
    assert_eq!((*generation, attached.len()), (2, 1));
}

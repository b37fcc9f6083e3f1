//! The contract suite of the driver trait, run on each driver. It panics at the first thing that is not as it
//! must be, as tests do.
#![allow(clippy::expect_used)]

use std::{future::Future, time::Duration};

use cumulet_domain::{
    console::ConsoleKind,
    id::InstanceId,
    message::{OffReason, Power},
};

use tokio::io::AsyncReadExt as _;

use crate::{ConsoleStream, DomainSpec, Event, Hypervisor, Prepared};

/// How long an event may take.
const SOON: Duration = Duration::from_secs(20);

/// Runs the suite on a driver without guests. `spec` makes a guest's specification, whose disk and devices
/// exist; the guest never has to react to anything.
pub async fn run<F: Future<Output = DomainSpec>>(
    driver: &dyn Hypervisor,
    spec: impl Fn(InstanceId) -> F,
    ids: [InstanceId; 2],
) {
    let capabilities = driver.capabilities().await.expect("capabilities");
    assert!(capabilities.vcpus > 0 && capabilities.memory_mib > 0);
    let profile = driver.profile().await.expect("profile");
    assert_eq!(profile.check(), Ok(()));
    assert!(profile.architecture.is_some());
    for name in ["hypervisor_type", "hypervisor_version", "cpu_info:topology:cores"] {
        assert!(profile.capabilities.contains_key(name), "{name}: {profile:?}");
    }
    let [one, two] = ids;
    nothing_is_there(driver, one).await;
    starts_in_two_phases(driver, &spec(one).await).await;
    goes_off_and_on(driver, &spec(one).await).await;
    let second = spec(two).await;
    assert_eq!(driver.prepare(&second).await, Ok(Prepared::Paused));
    let mut listed: Vec<_> = driver
        .list()
        .await
        .expect("list")
        .iter()
        .map(|s| s.instance)
        .collect();
    listed.sort();
    let mut both = vec![one, two];
    both.sort();
    assert_eq!(listed, both, "the driver lists its own guests and no others");
    for id in ids {
        assert_eq!(driver.ensure_absent(id).await, Ok(()));
        nothing_is_there(driver, id).await;
    }
}

/// What is not there can be ended, and can't be resumed.
async fn nothing_is_there(driver: &dyn Hypervisor, id: InstanceId) {
    let status = driver.status(id).await.expect("status");
    assert_eq!((status.power, status.paused), (Power::Absent, false));
    assert_eq!(driver.ensure_off(id, Duration::ZERO).await, Ok(()));
    assert_eq!(driver.ensure_off(id, Duration::from_millis(1)).await, Ok(()));
    assert_eq!(driver.ensure_absent(id).await, Ok(()));
    assert!(driver.resume(id).await.is_err());
    assert!(driver.reboot(id, Duration::ZERO).await.is_err());
    assert!(driver.screenshot(id).await.is_err());
    for kind in ConsoleKind::ALL {
        assert!(driver.open_console(id, kind).await.is_err());
    }
    assert!(
        !driver
            .list()
            .await
            .expect("list")
            .iter()
            .any(|s| s.instance == id)
    );
}

/// Prepared is on and paused; resumed is on; both can be said twice.
async fn starts_in_two_phases(driver: &dyn Hypervisor, spec: &DomainSpec) {
    let id = spec.instance;
    for _ in 0..2 {
        assert_eq!(driver.prepare(spec).await, Ok(Prepared::Paused));
        let status = driver.status(id).await.expect("status");
        assert_eq!((status.power, status.paused), (Power::On, true));
    }
    for _ in 0..2 {
        assert_eq!(driver.resume(id).await, Ok(()));
        let status = driver.status(id).await.expect("status");
        assert_eq!((status.power, status.paused), (Power::On, false));
        assert_eq!(driver.prepare(spec).await, Ok(Prepared::Running));
    }
    assert!(driver.console_tail(id, 10).await.expect("console").len() <= 10);
    let picture = driver.screenshot(id).await.expect("screenshot");
    assert!(picture.starts_with(&[0xff, 0xd8, 0xff]), "not a JPEG");
    assert_eq!(driver.reboot(id, Duration::from_millis(1)).await, Ok(()));
    assert_eq!(driver.status(id).await.expect("status").power, Power::On);
}

/// The serial console ends with the guest's process.
async fn console_ends(mut console: Box<dyn ConsoleStream>) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(SOON, console.read_to_end(&mut rest)).await;
    // Some say that it has ended, others that it has broken.
    drop(read.expect("the console of a guest that is off goes on"));
}

/// A guest that is ended is told of, keeps its reason, and starts again.
async fn goes_off_and_on(driver: &dyn Hypervisor, spec: &DomainSpec) {
    let id = spec.instance;
    let mut events = driver.events();
    let console = driver.open_console(id, ConsoleKind::Serial).await;
    let console = console.expect("a guest that is on has a serial console");
    for grace in [Duration::from_millis(10), Duration::ZERO] {
        assert_eq!(driver.ensure_off(id, grace).await, Ok(()));
    }
    let told = async {
        loop {
            match events.recv().await.expect("events end") {
                Event::Changed(s) if s.instance == id && s.power == Power::Off => break,
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, told)
        .await
        .expect("nobody told that the guest went off");
    console_ends(console).await;
    assert!(driver.open_console(id, ConsoleKind::Serial).await.is_err());
    let status = driver.status(id).await.expect("status");
    assert_eq!(status.power, Power::Off);
    assert_eq!(status.off_reason, Some(OffReason::Commanded));
    assert!(driver.resume(id).await.is_err(), "what is off can't be resumed");
    assert_eq!(driver.prepare(spec).await, Ok(Prepared::Paused));
    assert_eq!(driver.resume(id).await, Ok(()));
}

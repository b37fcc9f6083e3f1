//! What the worker says and does by the clock.

use std::{io, path::Path};

use async_trait::async_trait;

use super::*;
use crate::{
    blocking::{blocking, tests::Hanging},
    disks::{DiskFile, Disks, May},
};

/// Disks that can't tell at first how many there is room for.
struct LateDisks {
    refusals: Mutex<u32>,
}

#[async_trait]
impl Disks for LateDisks {
    fn uses_images(&self) -> bool {
        false
    }

    async fn ensure(&self, _: &DiskFile<'_>, _: May) -> io::Result<bool> {
        Ok(true)
    }

    async fn make(&self, _: &DiskFile<'_>) -> io::Result<()> {
        Ok(())
    }

    async fn copy(&self, _: &DiskFile<'_>, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn capacity_gib(&self, _: &[std::path::PathBuf]) -> io::Result<u64> {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals == 0 {
            return Ok(77);
        }
        *refusals -= 1;
        Err(io::Error::other("not yet"))
    }
}

/// Disks that are files, as QEMU's are.
struct FileDisks;

#[async_trait]
impl Disks for FileDisks {
    fn uses_images(&self) -> bool {
        false
    }

    async fn ensure(&self, _: &DiskFile<'_>, _: May) -> io::Result<bool> {
        Ok(true)
    }

    async fn make(&self, _: &DiskFile<'_>) -> io::Result<()> {
        Ok(())
    }

    async fn copy(&self, _: &DiskFile<'_>, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn capacity_gib(&self, _: &[std::path::PathBuf]) -> io::Result<u64> {
        blocking(|| Ok(77)).await
    }
}

impl Host {
    /// The same host with other disks.
    async fn with_disks(disks: impl Disks) -> Self {
        let mut host = Host::start().await;
        host.kill().await;
        host.forget_reports().await;
        let (dir, bus, clock) = (&host.dir, &host.bus, &host.clock);
        host.worker = make(dir, bus, clock, &host.hypervisor, &host.network, &host.sink);
        Arc::get_mut(&mut host.worker).unwrap().deps.disks = Arc::new(disks);
        host.spawn();
        host
    }

    async fn heartbeat(&mut self) -> Heartbeat {
        self.until(|c| match c {
            ReportContent::Heartbeat(heartbeat) => Some(*heartbeat),
            _ => None,
        })
        .await
    }

    /// Waits until a full report comes by the clock, and what is done after it is done.
    async fn next_look(&mut self) {
        self.forget_reports().await;
        let full = WorkerConfig::new(name(), "", "").full_report;
        tokio::time::sleep(full).await;
        self.heard().await;
        // The next heartbeat is of the same task.
        self.heartbeat().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_says_what_the_host_is_and_how_busy() {
    let mut host = Host::start().await;
    let heartbeat = host.heartbeat().await;
    let profile = heartbeat.profile.unwrap();
    assert_eq!(profile.architecture.as_deref(), Some("x86_64"));
    assert_eq!(profile.capabilities["hypervisor_type"], "fake");
    assert_eq!(heartbeat.metrics, [("cpu.percent".to_owned(), 7)].into());
    assert_eq!(
        (
            heartbeat.hypervisor.as_str(),
            heartbeat.availability_zone.as_str()
        ),
        ("fake", "us-east-1a")
    );
}

/// A launch would be refused for want of disk until the next heartbeat.
#[tokio::test(start_paused = true)]
async fn no_heartbeat_says_less_disk_than_there_is() {
    for refusals in [0, 1, 4] {
        let refusals = Mutex::new(refusals);
        let mut host = Host::with_disks(LateDisks { refusals }).await;
        assert_eq!(host.heartbeat().await.resources.disk_gib, 77);
    }
}

/// Through several looks at the disks, which never end.
#[tokio::test(start_paused = true)]
async fn disks_that_hang_keep_no_heartbeat() {
    let mut host = Host::with_disks(FileDisks).await;
    assert_eq!(host.heartbeat().await.resources.disk_gib, 77);
    let _hanging = Hanging::everywhere().await;
    let (full, step) = (
        WorkerConfig::new(name(), "", "").full_report,
        Duration::from_secs(1),
    );
    for _ in 0..(3 * full.as_secs()) {
        // By hand: while threads are at work the clock of a test stands.
        tokio::time::advance(step).await;
        tokio::select! {
            biased;
            Some(old) = host.reports.next() => old.ack(),
            () = std::future::ready(()) => {}
        }
    }
    let goes_on = async {
        loop {
            tokio::time::advance(step).await;
        }
    };
    let heartbeat = tokio::select! {
        heartbeat = host.heartbeat() => heartbeat,
        () = goes_on => unreachable!("it has no end"),
    };
    assert_eq!(heartbeat.resources.disk_gib, 77);
}

/// A policy that comes late, to a worker that has forgotten that it knew a newer one, makes the VPC again.
#[tokio::test(start_paused = true)]
async fn a_vpc_that_nothing_here_is_in_goes_after_two_looks() {
    let mut host = Host::start().await;
    host.order(run(1, 1, &[1])).await;
    host.order(destroy(1, 2)).await;
    assert!(host.worker.inventory().await.unwrap().is_empty());
    host.die_and_come_back().await;
    host.send(Action::Network(Arc::new(policy(1, &[1])))).await;
    host.until(|c| matches!(c, ReportContent::NetworkApplied { .. }).then_some(()))
        .await;
    assert_eq!(host.network.policy(VPC).unwrap().interfaces.len(), 1);
    assert!(!host.worker.inventory().await.unwrap().is_empty());
    host.next_look().await;
    assert!(
        !host.worker.inventory().await.unwrap().is_empty(),
        "one look is too few"
    );
    host.next_look().await;
    assert!(host.worker.inventory().await.unwrap().is_empty());
    assert!(host.network.policy(VPC).unwrap().interfaces.is_empty());
    // Its file is gone too: nothing of it comes back with the worker.
    host.die_and_come_back().await;
    assert!(host.worker.inventory().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_vpc_that_something_here_is_in_stays() {
    let mut host = Host::start().await;
    host.order(run(1, 1, &[1])).await;
    let before = host.worker.inventory().await.unwrap();
    for _ in 0..4 {
        host.next_look().await;
    }
    assert_eq!(host.worker.inventory().await.unwrap(), before);
    assert_eq!(host.network.policy(VPC).unwrap().interfaces.len(), 1);
    // Gone and used again between two looks: that counts from the beginning.
    host.order(destroy(1, 2)).await;
    host.order(run(2, 3, &[2])).await;
    for _ in 0..2 {
        host.next_look().await;
    }
    assert_eq!(host.network.policy(VPC).unwrap().interfaces.len(), 1);
}

//! What the worker says and does by the clock.

use super::*;

impl Host {
    async fn beat(&mut self) -> Heartbeat {
        self.until(|c| match c {
            ReportContent::Heartbeat(beat) => Some(*beat),
            _ => None,
        })
        .await
    }

    /// Waits until a full report comes by the clock, and what is done after it is done.
    async fn next_look(&mut self) {
        while let Ok(Some(old)) = tokio::time::timeout(Duration::from_millis(1), self.reports.next()).await {
            old.ack();
        }
        let full = WorkerConfig::new(name(), "", "").full_report;
        tokio::time::sleep(full).await;
        self.heard().await;
        // The next beat is of the same task.
        self.beat().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_beat_says_what_the_host_is_and_how_busy() {
    let mut host = Host::start().await;
    let beat = host.beat().await;
    let profile = beat.profile.unwrap();
    assert_eq!(profile.architecture.as_deref(), Some("x86_64"));
    assert_eq!(profile.capabilities["hypervisor_type"], "fake");
    assert_eq!(beat.metrics, [("cpu.percent".to_owned(), 7)].into());
    assert_eq!(
        (beat.hypervisor.as_str(), beat.availability_zone.as_str()),
        ("fake", "us-east-1a")
    );
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

//! A bus that is away when the worker starts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cumulet_bus::{Bus, BusError, Counters, HostMailbox, LocalBus, ReportMailbox, Wakeup, WakeupMailbox};
use cumulet_domain::{
    id::HostId,
    message::{Command, Power, Query, Report},
};

use super::{Host, Sink, make, report, run, stop};
use crate::{MetadataSink as _, network::FakeHostNetwork, testing::instance};

/// A bus, and whether it is away.
#[derive(Clone)]
struct Away(LocalBus, Arc<AtomicBool>);

impl Away {
    fn there(&self) -> Result<&LocalBus, BusError> {
        if self.1.load(Ordering::SeqCst) {
            return Err(BusError::Unavailable("away".into()));
        }
        Ok(&self.0)
    }
}

#[async_trait]
impl Bus for Away {
    async fn send(&self, host: &HostId, command: Command) -> Result<(), BusError> {
        self.there()?.send(host, command).await
    }
    async fn report(&self, report: Report) -> Result<(), BusError> {
        self.there()?.report(report).await
    }
    async fn query(&self, host: &HostId, query: Query) -> Result<Vec<u8>, BusError> {
        self.there()?.query(host, query).await
    }
    async fn wake(&self, wakeup: Wakeup) -> Result<(), BusError> {
        self.there()?.wake(wakeup).await
    }
    async fn host_mailbox(&self, host: &HostId) -> Result<HostMailbox, BusError> {
        self.there()?.host_mailbox(host).await
    }
    async fn report_mailbox(&self) -> Result<ReportMailbox, BusError> {
        self.there()?.report_mailbox().await
    }
    async fn wakeups(&self) -> Result<WakeupMailbox, BusError> {
        self.there()?.wakeups().await
    }
    fn counters(&self) -> Counters {
        self.0.counters()
    }
}

#[tokio::test(start_paused = true)]
async fn guests_are_seen_to_while_the_bus_is_away() {
    let mut host = Host::start().await;
    host.order(run(1, 1, &[1])).await;
    host.kill().await;
    host.network = Arc::new(FakeHostNetwork::new());
    host.sink = Arc::new(Sink::default());
    let bus = Away(host.bus.clone(), Arc::new(AtomicBool::new(true)));
    let (dir, clock) = (&host.dir, &host.clock);
    host.worker = make(dir, &bus, clock, &host.hypervisor, &host.network, &host.sink);
    host.spawn();
    while host.sink.registered().is_empty() || host.worker.inventory().await.unwrap().len() < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(host.sink.registered(), [instance(1)]);
    assert_eq!(host.power(1).await, Power::On);
    bus.1.store(false, Ordering::SeqCst);
    host.heard().await;
    // It may say that before it listens again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let done = host.order(stop(1, 2)).await;
    assert_eq!(
        (done.report.instance, done.report.power),
        (instance(1), Power::Off)
    );
    assert_eq!(
        host.full().await,
        [report(1, 2, Power::Off, done.report.off_reason)]
    );
}

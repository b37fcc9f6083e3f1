//! A tap on the shoulder for the engine and the synchroniser. Losing one costs latency only, because both
//! also look at the database by themselves now and then.

use std::sync::Arc;

use cumulet_bus::{Bus, Tap, WakeMailbox};
use tokio::sync::Notify;

/// Wakes the conductor. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    engine: Notify,
    sync: Notify,
    /// For other processes; nobody waits for these where all roles are in this one.
    outward: Outward,
}

#[derive(Debug, Default)]
struct Outward {
    work: Notify,
    hosts: Notify,
}

impl Wake {
    /// A wake that nobody waits for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// There may be something to do, now.
    pub fn now(&self) {
        self.inside(Tap::Work);
        self.0.outward.work.notify_one();
    }

    /// Hosts may have something to hear of, but no operation waits.
    pub fn hosts(&self) {
        self.inside(Tap::Hosts);
        self.0.outward.hosts.notify_one();
    }

    fn inside(&self, tap: Tap) {
        if tap == Tap::Work {
            self.0.engine.notify_one();
        }
        self.0.sync.notify_one();
    }

    /// Passes pokes on over the bus, for a process that has not all roles. Those that come while one is on
    /// its way are passed on together. Does not end.
    pub(super) async fn forward(self, bus: Arc<dyn Bus>) {
        loop {
            let tap = tokio::select! {
                biased;
                () = self.0.outward.work.notified() => Tap::Work,
                () = self.0.outward.hosts.notified() => Tap::Hosts,
            };
            if let Err(error) = bus.wake(tap).await {
                tracing::debug!(%error, "a conductor was not woken; it looks by itself later");
            }
        }
    }

    /// Pokes with what comes over the bus, and passes nothing of it on.
    pub(super) async fn listen(self, mut taps: WakeMailbox) {
        while let Some(tap) = taps.next().await {
            self.inside(tap);
        }
    }

    pub(super) async fn engine(&self) {
        self.0.engine.notified().await;
    }

    pub(super) async fn sync(&self) {
        self.0.sync.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use cumulet_bus::LocalBus;
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn pokes_reach_a_conductor_over_the_bus() {
        let bus = Arc::new(LocalBus::new());
        let (gateway, conductor) = (Wake::new(), Wake::new());
        let listening = tokio::spawn(conductor.clone().listen(bus.wakes().await.unwrap()));
        let forwarding = tokio::spawn(gateway.clone().forward(bus.clone()));
        gateway.now();
        conductor.engine().await;
        conductor.sync().await;
        gateway.hosts();
        conductor.sync().await;
        assert!(conductor.engine().now_or_never().is_none(), "hosts only");
        assert_eq!(bus.counters().sent, 2);
        listening.abort();
        forwarding.abort();
    }
}

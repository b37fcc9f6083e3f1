//! Wake-ups of the engine and of the synchroniser. Losing one costs latency only, because both also look at
//! the database by themselves now and then. The API and reports send them after a commit.

use std::sync::Arc;

use cumulet_bus::{Bus, Wakeup, WakeupMailbox};
use tokio::sync::Notify;

use crate::boxed;

/// Wakes the conductor. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    engine: Notify,
    sync: Notify,
    /// For those that listen elsewhere.
    far_engine: Notify,
    far_sync: Notify,
}

impl Wake {
    /// A wake that nobody waits for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// There may be something to do, now.
    pub fn now(&self) {
        self.0.far_engine.notify_one();
        self.near(Wakeup::Work);
    }

    /// Hosts may have something to hear of, but no operation waits.
    pub fn hosts(&self) {
        self.0.far_sync.notify_one();
        self.near(Wakeup::Hosts);
    }

    fn near(&self, wakeup: Wakeup) {
        if wakeup == Wakeup::Work {
            self.0.engine.notify_one();
        }
        self.0.sync.notify_one();
    }

    /// Passes every wake-up of this process on over the bus, where others listen. Those that come while one
    /// is on its way are passed on together. Does not end.
    #[boxed]
    pub async fn forward(self, bus: Arc<dyn Bus>) {
        loop {
            let wakeup = tokio::select! {
                biased;
                () = self.0.far_engine.notified() => Wakeup::Work,
                () = self.0.far_sync.notified() => Wakeup::Hosts,
            };
            if let Err(error) = bus.wake(wakeup).await {
                tracing::debug!(%error, "nobody was woken elsewhere; they look by themselves later");
            }
        }
    }

    /// Pokes with what comes over the bus.
    #[boxed]
    pub async fn listen(self, mut wakeups: WakeupMailbox) {
        while let Some(wakeup) = wakeups.next().await {
            self.near(wakeup);
        }
    }

    /// Returns when operations may be due.
    #[boxed]
    pub async fn engine(&self) {
        self.0.engine.notified().await;
    }

    /// Returns when hosts may have something to hear of.
    #[boxed]
    pub async fn sync(&self) {
        self.0.sync.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use cumulet_bus::LocalBus;
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn wakeups_reach_a_conductor_over_the_bus() {
        let bus = Arc::new(LocalBus::new());
        let (gateway, conductor) = (Wake::new(), Wake::new());
        let listening = tokio::spawn(conductor.clone().listen(bus.wakeups().await.unwrap()));
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

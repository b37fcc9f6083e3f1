//! A tap on the shoulder for the engine and the synchroniser. Losing one costs latency only, because both
//! also look at the database by themselves now and then.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the conductor. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    engine: Notify,
    sync: Notify,
}

impl Wake {
    /// A wake that nobody waits for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// There may be something to do, now.
    pub fn now(&self) {
        self.0.engine.notify_one();
        self.0.sync.notify_one();
    }

    /// Hosts may have something to hear of, but no operation waits.
    pub fn hosts(&self) {
        self.0.sync.notify_one();
    }

    pub(super) async fn engine(&self) {
        self.0.engine.notified().await;
    }

    pub(super) async fn sync(&self) {
        self.0.sync.notified().await;
    }
}

//! The presence of whoever asked: whether somebody still waits for a call's answer. The door tells, per
//! connection; what takes long asks, before it begins.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

use crate::boxed;

/// See the module. Clones are the same client's; by default somebody waits for ever.
#[derive(Clone, Debug, Default)]
pub struct Presence(Option<Arc<Client>>);

#[derive(Debug, Default)]
struct Client {
    gone: AtomicBool,
    told: Notify,
}

impl Presence {
    /// That of a client who may go.
    pub fn of_client() -> Self {
        Presence(Some(Arc::default()))
    }

    /// The client has gone.
    pub fn leave(&self) {
        if let Some(client) = &self.0 {
            client.gone.store(true, Ordering::Release);
            client.told.notify_waiters();
        }
    }

    /// Whether the client has gone.
    pub fn is_gone(&self) -> bool {
        let gone = |client: &Arc<Client>| client.gone.load(Ordering::Acquire);
        self.0.as_ref().is_some_and(gone)
    }

    /// Waits until the client has gone.
    #[boxed]
    pub async fn gone(&self) {
        let Some(client) = &self.0 else {
            return std::future::pending().await;
        };
        let mut told = std::pin::pin!(client.told.notified());
        // From here on `leave` is heard, and before it is seen.
        told.as_mut().enable();
        if !self.is_gone() {
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_goes_is_gone_before_and_after_it_is_waited_for() {
        let client = Presence::of_client();
        assert!(!client.is_gone());
        let (_, ()) = tokio::join!(client.gone(), async { client.clone().leave() });
        client.gone().await;
        assert!(client.is_gone() && !Presence::default().is_gone());
    }
}

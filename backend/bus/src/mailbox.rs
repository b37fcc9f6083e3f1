//! Mailboxes: the receiving ends of a bus, the same types for every bus.

use async_trait::async_trait;
use cumulet_domain::message::Report;

use crate::{Delivered, Delivery, Wakeup};

/// Where a mailbox gets its messages from.
#[async_trait]
pub(crate) trait Source<T>: Send {
    /// Waits for messages and adds what is there, `limit` at the most; none when the source has closed.
    /// Nothing is lost where the wait is given up.
    async fn take(&mut self, limit: usize, into: &mut Vec<T>);
}

macro_rules! mailbox {
    ($(#[$doc:meta])* $name:ident of $item:ty) => {
        $(#[$doc])*
        pub struct $name(Box<dyn Source<$item>>);

        impl $name {
            pub(crate) fn new(source: impl Source<$item> + 'static) -> Self {
                Self(Box::new(source))
            }

            /// The next one; `None` when the bus has closed or another receiver has taken over.
            pub async fn next(&mut self) -> Option<$item> {
                let mut one = Vec::with_capacity(1);
                self.0.take(1, &mut one).await;
                one.pop()
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

mailbox! {
    /// A host's deliveries.
    HostMailbox of Delivery
}

mailbox! {
    /// The conductor's reports.
    ReportMailbox of Delivered<Report>
}

mailbox! {
    /// The conductor's wake-ups.
    WakeupMailbox of Wakeup
}

impl ReportMailbox {
    /// The next reports, as many as are there, at most `limit`; empty when the bus has closed. Several
    /// reports that came together can share one transaction.
    pub async fn next_batch(&mut self, limit: usize) -> Vec<Delivered<Report>> {
        let mut batch = Vec::new();
        self.0.take(limit, &mut batch).await;
        batch
    }
}

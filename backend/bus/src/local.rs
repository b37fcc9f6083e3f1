//! The bus of one process: bounded queues in memory. Nothing survives the process, which the conductor
//! heals as it heals any lost message.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cumulet_domain::{
    id::HostId,
    message::{Command, Query, Report},
};
use tokio::sync::{mpsc, oneshot};

use crate::{Bus, BusError, Delivery, HostMailbox, Reply, ReportMailbox};

/// Messages that wait in one queue at the most. Who reports waits for room; who commands tries again later.
const QUEUE: usize = 65_536;

/// How long a read may take.
const QUERY_DEADLINE: Duration = Duration::from_secs(5);

/// A bus inside one process.
#[derive(Clone, Debug, Default)]
pub struct LocalBus(Arc<Mutex<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    hosts: HashMap<HostId, mpsc::Sender<Delivery>>,
    reports: Option<mpsc::Sender<Report>>,
}

impl LocalBus {
    /// A bus that nobody listens on yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host that takes nothing must not hold up whoever also talks to others: a full queue is an error.
    fn deliver(&self, host: &HostId, delivery: Delivery) -> Result<(), BusError> {
        use mpsc::error::TrySendError;
        let sender = self.queues().hosts.get(host).cloned();
        let sender = sender.ok_or_else(|| BusError::NoSuchHost(host.clone()))?;
        sender.try_send(delivery).map_err(|error| match error {
            TrySendError::Full(_) => BusError::Unavailable(format!("the queue of host {host} is full")),
            TrySendError::Closed(_) => BusError::NoSuchHost(host.clone()),
        })
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn send(&self, host: &HostId, command: Command) -> Result<(), BusError> {
        self.deliver(host, Delivery::Command(command))
    }

    async fn report(&self, report: Report) -> Result<(), BusError> {
        let sender = self.queues().reports.clone();
        let sender = sender.ok_or_else(|| BusError::Unavailable("no conductor listens".into()))?;
        sender
            .send(report)
            .await
            .map_err(|_| BusError::Unavailable("the conductor has gone".into()))
    }

    async fn query(&self, host: &HostId, query: Query) -> Result<Vec<u8>, BusError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.deliver(host, Delivery::Query(query, Reply(reply)))?;
            answer
                .await
                .map_err(|_| BusError::Unavailable(format!("host {host} dropped the question")))?
        };
        let late = |_| BusError::Unavailable(format!("host {host} did not answer in {QUERY_DEADLINE:?}"));
        tokio::time::timeout(QUERY_DEADLINE, asked).await.map_err(late)?
    }

    async fn host_mailbox(&self, host: &HostId) -> Result<HostMailbox, BusError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.queues().hosts.insert(host.clone(), sender);
        Ok(HostMailbox(receiver))
    }

    async fn report_mailbox(&self) -> Result<ReportMailbox, BusError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.queues().reports = Some(sender);
        Ok(ReportMailbox(receiver))
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::{id::InstanceId, message::Action, time::Timestamp};

    use super::*;

    fn host() -> HostId {
        HostId("one".into())
    }

    fn command() -> Command {
        Command {
            operation: None,
            deadline: Timestamp(0),
            action: Action::ReportAll,
        }
    }

    #[tokio::test]
    async fn a_command_reaches_its_host_and_no_other() {
        let bus = LocalBus::new();
        assert_eq!(
            bus.send(&host(), command()).await,
            Err(BusError::NoSuchHost(host()))
        );
        let mut mailbox = bus.host_mailbox(&host()).await.unwrap();
        bus.send(&host(), command()).await.unwrap();
        assert!(matches!(mailbox.next().await, Some(Delivery::Command(c)) if c == command()));
    }

    #[tokio::test]
    async fn a_host_that_takes_nothing_holds_up_nobody() {
        let bus = LocalBus::new();
        let _mailbox = bus.host_mailbox(&host()).await.unwrap();
        for _ in 0..QUEUE {
            bus.send(&host(), command()).await.unwrap();
        }
        let full = bus.send(&host(), command()).await;
        assert!(matches!(full, Err(BusError::Unavailable(_))), "{full:?}");
    }

    #[tokio::test]
    async fn a_newer_mailbox_replaces_the_older() {
        let bus = LocalBus::new();
        let mut old = bus.host_mailbox(&host()).await.unwrap();
        let mut new = bus.host_mailbox(&host()).await.unwrap();
        bus.send(&host(), command()).await.unwrap();
        assert!(old.next().await.is_none());
        assert!(new.next().await.is_some());
    }

    #[tokio::test]
    async fn a_read_is_answered_or_refused() {
        let bus = LocalBus::new();
        let mut mailbox = bus.host_mailbox(&host()).await.unwrap();
        let answering = async {
            for result in [Ok(b"text".to_vec()), Err("no such guest".to_owned())] {
                if let Some(Delivery::Query(_, reply)) = mailbox.next().await {
                    reply.answer(result);
                }
            }
        };
        let id = InstanceId::new(1 << 40);
        let bus2 = bus.clone();
        let asking = async {
            let first = bus2.query(&host(), Query::ConsoleOutput(id)).await;
            (first, bus2.query(&host(), Query::Screenshot(id)).await)
        };
        let ((), (first, second)) = tokio::join!(answering, asking);
        assert_eq!(first, Ok(b"text".to_vec()));
        assert_eq!(second, Err(BusError::Refused("no such guest".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_read_ends_at_its_deadline() {
        let bus = LocalBus::new();
        let _mailbox = bus.host_mailbox(&host()).await.unwrap();
        let answer = bus
            .query(&host(), Query::ConsoleOutput(InstanceId::new(1 << 40)))
            .await;
        assert!(matches!(answer, Err(BusError::Unavailable(_))));
    }
}

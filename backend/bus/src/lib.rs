//! Carries commands to hosts, reports to the conductor, and reads to hosts. It only carries: the
//! database decides, and everything converges (later) when a message is lost.

mod local;

use async_trait::async_trait;
use cumulet_domain::{
    id::{HostId, InstanceId},
    message::{Command, Query, Report},
};

pub use local::LocalBus;

/// Why a message could not be handed over or a read was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nobody listens for this host (yet); whoever sent the message tries again later.
    #[error("host {0} is not listening")]
    NoSuchHost(HostId),
    /// The bus itself is away or full.
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    /// The host answered a read with a refusal.
    #[error("{0}")]
    Refused(String),
}

/// The sending half that the control plane holds, and the receiving half that hosts hold.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Hands a command over for a host. It may arrive late, twice, or never.
    ///
    /// # Errors
    /// When it was certainly not handed over.
    async fn send(&self, host: &HostId, command: Command) -> Result<(), BusError>;

    /// Hands a report over for the conductor. It may arrive late, twice, or never.
    ///
    /// # Errors
    /// When it was certainly not handed over.
    async fn report(&self, report: Report) -> Result<(), BusError>;

    /// Asks a host and waits for the answer, for a few seconds at the most.
    ///
    /// # Errors
    /// When the host is not there, does not answer in time, or refuses.
    async fn query(&self, host: &HostId, query: Query) -> Result<Vec<u8>, BusError>;

    /// The next commands and reads for a host, in the order in which they came. One receiver a host; a
    /// newer one replaces the older.
    async fn host_mailbox(&self, host: &HostId) -> Result<HostMailbox, BusError>;

    /// The next reports for the conductor. One receiver; a newer one replaces the older.
    async fn report_mailbox(&self) -> Result<ReportMailbox, BusError>;
}

/// What comes to a host.
#[derive(Debug)]
pub enum Delivery {
    /// Something to do.
    Command(Command),
    /// Something to tell.
    Query(Query, Reply),
}

impl Delivery {
    /// The instance that the delivery is about, for keeping its deliveries in order.
    pub fn instance(&self) -> Option<InstanceId> {
        match self {
            Delivery::Command(command) => command.action.instance().map(|(id, _)| id),
            Delivery::Query(Query::ConsoleOutput(id) | Query::Screenshot(id), _) => Some(*id),
        }
    }
}

/// Where the answer to a read goes.
#[derive(Debug)]
pub struct Reply(tokio::sync::oneshot::Sender<Result<Vec<u8>, BusError>>);

impl Reply {
    /// Answers. An asker that has gone away is no error.
    pub fn answer(self, result: Result<Vec<u8>, String>) {
        drop(self.0.send(result.map_err(BusError::Refused)));
    }
}

/// A host's deliveries.
#[derive(Debug)]
pub struct HostMailbox(tokio::sync::mpsc::Receiver<Delivery>);

impl HostMailbox {
    /// The next delivery; `None` when the bus has closed or another receiver has taken over.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.0.recv().await
    }
}

/// The conductor's reports.
#[derive(Debug)]
pub struct ReportMailbox(tokio::sync::mpsc::Receiver<Report>);

impl ReportMailbox {
    /// The next report; `None` when the bus has closed or another receiver has taken over.
    pub async fn next(&mut self) -> Option<Report> {
        self.0.recv().await
    }

    /// The next reports, as many as are there, at most `limit`; empty when the bus has closed. Several
    /// reports that came together can share one transaction.
    pub async fn next_batch(&mut self, limit: usize) -> Vec<Report> {
        let mut batch = Vec::new();
        self.0.recv_many(&mut batch, limit).await;
        batch
    }
}

//! The message bus: commands and reads to hosts, reports to the conductor, and wake-ups to both. It only
//! carries: the database decides, and everything converges, later, when a message is lost.
//!
//! What every bus keeps to (`tests/contract`):
//!
//! - `send` and `report` are `Ok` once the bus has taken the message, and end within [`DEADLINE`] in any
//!   case; so does `query`.
//! - Messages to one host, and reports of one host to one conductor, come in the order in which they were
//!   sent; what comes again comes later than it came first.
//! - A command or report that was handed out and dropped without an acknowledgement comes again after a
//!   pause, [`DELIVERY_LIMIT`] times in all; after that it is a dead letter. A read never comes again.
//! - One mailbox a host: a newer one of the same bus replaces the older, and what waited is handed to it.
//!   Report mailboxes share what comes, each report for one of them.
//! - A wake-up goes to every listener, or is lost.

mod chaos;
mod counters;
mod delivered;
mod local;
mod mailbox;
pub mod rabbit;

// Async functions that others await are compiled here, once (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;

use std::time::Duration;

use async_trait::async_trait;
use cumulet_domain::{
    id::{HostId, InstanceId},
    message::{Command, Query, Report},
};
use serde::{Deserialize, Serialize};

pub use chaos::{Chance, Chaos, ChaosPlan};
pub use counters::Counters;
pub use delivered::{DELIVERY_LIMIT, Delivered};
pub use local::LocalBus;
pub use mailbox::{HostMailbox, ReportMailbox, WakeupMailbox};
pub use rabbit::{RabbitBus, RabbitConfig};

/// How long handing over or asking may take at the most.
pub const DEADLINE: Duration = Duration::from_millis(4500);

/// Why a message could not be handed over or a read was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nobody listens for this host (yet); the sender tries again later.
    #[error("host {0} is not listening")]
    NoSuchHost(HostId),
    /// The bus itself is away or full.
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    /// The host answered a read with a refusal.
    #[error("{0}")]
    Refused(String),
}

/// A wake-up: what there is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wakeup {
    /// An operation may be due.
    Work,
    /// Hosts may have something to hear of, but no operation waits.
    Hosts,
}

/// The sending half that the control plane holds, and the receiving half that hosts hold.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Hands a command over for a host. It may arrive late, twice, or never.
    ///
    /// # Errors
    /// When it was not handed over, as far as the bus can tell: where the bus goes away in between, it may
    /// have been all the same.
    async fn send(&self, host: &HostId, command: Command) -> Result<(), BusError>;

    /// Hands a report over for the conductor. It may arrive late, twice, or never.
    ///
    /// # Errors
    /// As for `send`.
    async fn report(&self, report: Report) -> Result<(), BusError>;

    /// Asks a host and waits for the answer, for a few seconds at the most.
    ///
    /// # Errors
    /// When the host is not there, does not answer in time, or refuses.
    async fn query(&self, host: &HostId, query: Query) -> Result<Vec<u8>, BusError>;

    /// Wakes the conductors. A wake-up may be lost at any time, also where nobody listens.
    ///
    /// # Errors
    /// When the bus is away.
    async fn wake(&self, wakeup: Wakeup) -> Result<(), BusError>;

    /// The next commands and reads for a host, in the order in which they came. One receiver a host; a
    /// newer one replaces the older.
    ///
    /// # Errors
    /// When the bus is away.
    async fn host_mailbox(&self, host: &HostId) -> Result<HostMailbox, BusError>;

    /// The next reports for the conductor. Several receivers share them.
    ///
    /// # Errors
    /// When the bus is away.
    async fn report_mailbox(&self) -> Result<ReportMailbox, BusError>;

    /// The next wake-ups. Every receiver gets them all.
    ///
    /// # Errors
    /// When the bus is away.
    async fn wakeups(&self) -> Result<WakeupMailbox, BusError>;

    /// What has been counted since the start.
    fn counters(&self) -> Counters;
}

/// What comes to a host.
#[derive(Debug)]
pub enum Delivery {
    /// Something to do. It comes again unless it is acknowledged.
    Command(Delivered<Command>),
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

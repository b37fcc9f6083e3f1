//! The database: one handle for reads, one writer for transactions, and functions over both, one table
//! or one question a file.

pub mod addresses;
pub mod attachments;
pub mod authority;
pub mod batch;
pub mod catch_up;
mod connect;
pub mod consistency;
pub mod disk_keys;
pub mod encryption;
pub mod entity;
mod error;
pub mod fixed;
pub mod groups;
pub mod images;
mod inline;
pub mod instances;
pub mod interfaces;
mod lanes;
pub mod launch_volumes;
mod location;
pub mod lock;
pub mod modifications;
pub mod networks;
pub mod page;
mod participant;
pub mod placement;
pub mod pool;
pub mod resource;
pub mod rows;
#[cfg(any(test, feature = "scratch"))]
#[allow(clippy::unwrap_used, clippy::print_stderr, clippy::panic, clippy::unreachable)] // for tests alone
pub mod scratch;
mod server;
pub mod settings;
pub mod snapshots;
mod spent;
mod sqlite;
pub mod tags;
pub mod tunnels;
pub mod user_data;
mod versions;
pub mod volume_copies;
pub mod volumes;
mod work;
mod writer;

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;

use std::sync::Arc;

use cumulet_domain::{Result, account::AccountId};
use futures::future::BoxFuture;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, EntityTrait, Select, TryGetable};

#[cfg(any(test, feature = "scratch"))]
pub use connect::connect_to;
pub use connect::{Options, connect, schema, snapshots, up_points};
use error::{TAKEN, newer};
pub use error::{failed, is_taken};
pub use inline::{Template, TransactionHooks, connect_inline};
use lanes::Lane;
pub use location::Location;
pub use participant::Participant;
pub use server::Counters;
pub use spent::Spent;
pub use versions::Invalidates;
use work::{Value, Work, typed, untyped};

/// Rows from which on a change is large: some milliseconds of SQLite's writer.
const LARGE: usize = 1000;

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: DatabaseConnection,
    writer: Writer,
    keep: bool,
    /// Rows that its transactions write, where they may be many.
    rows: usize,
    participant: Option<Arc<dyn Participant>>,
    spent: Option<Spent>,
}

/// Who runs transactions.
#[derive(Clone, Debug)]
enum Writer {
    Sqlite(Arc<writer::Writer>),
    Server(Arc<server::Server>),
}

impl Store {
    /// The connections for reads. What was committed before is seen.
    #[inline]
    pub fn read(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// A number for those who keep what they have read of an account's instances: as long as it is the one
    /// from before the read, a new read would find the same, but for what time does. With SQLite other
    /// processes (the operator's commands) are not counted: of what they write, only that the image of ended
    /// instances has been deleted is shown with an instance. A server is written to by many processes: each
    /// call answers another number, and nothing that was read is taken for what is there now.
    pub fn version(&self, account: AccountId) -> u64 {
        match &self.writer {
            Writer::Sqlite(writer) => writer.versions().of(account),
            Writer::Server(server) => server.version(),
        }
    }

    /// What has happened to transactions since the program started. With SQLite, nothing: there they run one
    /// after the other.
    pub fn counters(&self) -> Counters {
        match &self.writer {
            Writer::Sqlite(_) => Counters::default(),
            Writer::Server(server) => server.counters(),
        }
    }

    /// A handle whose transactions run in full and are then undone, successful or not: what DryRun
    /// needs, every check and no change.
    pub fn rehearsal(&self) -> Store {
        Store {
            keep: false,
            participant: None,
            ..self.clone()
        }
    }

    /// Whether this is such a handle.
    #[inline]
    pub fn is_rehearsal(&self) -> bool {
        !self.keep
    }

    /// A handle whose transactions take `participant` along.
    pub fn with(&self, participant: Arc<dyn Participant>) -> Store {
        Store {
            participant: Some(participant),
            ..self.clone()
        }
    }

    /// A handle whose transactions write so many rows, more or less. Many keep others waiting, where there is one
    /// writer for all (`lanes.rs`).
    pub fn writing(&self, rows: usize) -> Store {
        Store { rows, ..self.clone() }
    }

    /// A handle whose transactions count the time that they take.
    pub fn counting(&self, spent: Spent) -> Store {
        Store {
            spent: Some(spent),
            ..self.clone()
        }
    }

    /// Runs `work` in a transaction and commits it durably before it returns. When `work` fails nothing
    /// of it remains. Transactions that come together may share one commit, so `work` should be short
    /// and wait for nothing but the database. On a server, where others write at the same time, it may be run
    /// several times; of what it does outside of the transaction nothing may count but the last time.
    ///
    /// # Errors
    /// What `work` answers, or `Unavailable` when the commit's outcome is not success.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        self.write_with(Invalidates::Everything, work).await
    }

    /// Like [`Store::write`], for `work` that changes no more of instances than it declares, so that what
    /// is kept of other ones stays good.
    ///
    /// # Errors
    /// Those of [`Store::write`].
    pub async fn write_with<T, F>(&self, invalidates: Invalidates, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        typed(self.transact(invalidates, untyped(work)).await?)
    }

    /// What is the same for every transaction. Boxed, so that it is compiled here and not where it is awaited.
    fn transact(&self, invalidates: Invalidates, work: Box<dyn Work>) -> BoxFuture<'_, Result<Value>> {
        let (keep, participant) = (self.keep, self.participant.clone());
        match &self.writer {
            Writer::Sqlite(writer) => {
                let spent = self.spent.clone();
                let lane = match keep {
                    false => Lane::Rehearsal,
                    true if self.rows >= LARGE => Lane::Large,
                    true => Lane::Change,
                };
                Box::pin(writer.run(lane, invalidates, (participant, spent), work))
            }
            Writer::Server(server) => Box::pin(server.run(keep, participant, work)),
        }
    }
}

/// The one column that a query selects, of every row. (`into_tuple`, which says the same, is disallowed
/// elsewhere: it mixes columns up where there are more than one, see [`sqlite`].)
///
/// # Errors
/// Those of the database.
#[allow(clippy::disallowed_methods)] // one column, by the type
pub async fn column<E: EntityTrait, T: TryGetable + Send + Sync>(
    query: Select<E>,
    conn: &impl ConnectionTrait,
) -> Result<Vec<T>> {
    query.into_tuple().all(conn).await.map_err(failed)
}

/// The one column that a query selects, of the first row.
///
/// # Errors
/// Those of the database.
#[allow(clippy::disallowed_methods)] // one column, by the type
pub async fn first<E: EntityTrait, T: TryGetable + Send + Sync>(
    query: Select<E>,
    conn: &impl ConnectionTrait,
) -> Result<Option<T>> {
    query.into_tuple().one(conn).await.map_err(failed)
}

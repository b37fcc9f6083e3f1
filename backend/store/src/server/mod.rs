//! A database server, PostgreSQL or MariaDB (MySQL), that other processes write to as well. Reads go over a
//! pool; each transaction has a connection of its own and is run again as a whole when the server gives it
//! up for another's sake. See [`commit`] for how a commit's outcome is never guessed.

mod commit;
mod fault;
mod migrate;
mod mysql;
mod postgres;
mod retry;
mod session;
mod wire;

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use cumulet_domain::{Error, Result};
use futures::FutureExt as _;
use sea_orm::{
    Database, DatabaseConnection, DbErr, ProxyDatabaseTrait, ProxyExecResult, ProxyRow, Statement,
    TransactionTrait as _,
};

use super::{
    Location, Participant, failed,
    work::{Value, Work},
};
use commit::{Marker, Outcome};
use fault::{Failure, Fault};
pub use retry::Counters;
use retry::{ATTEMPTS, Tally};
use session::{Handle, Mode, Session};
use wire::Pool;

#[cfg(any(test, feature = "scratch"))]
pub(super) use migrate::up;
pub(super) use migrate::{listed, migrate, schema};

/// A database server.
#[derive(Debug)]
pub(super) struct Server {
    writes: Pool,
    tally: Tally,
}

/// How one run of a transaction has ended.
enum End {
    Done(Result<Value>),
    Again(Failure),
}

impl Server {
    /// The server, with room for so many transactions at once, and the connection for reads.
    ///
    /// # Errors
    /// Never for a server.
    pub(super) async fn open(location: &Location, connections: u32) -> Result<(Self, DatabaseConnection)> {
        let no_server = || Error::Internal("a file is no server".into());
        let reads = Pool::new(location, connections).ok_or_else(no_server)?;
        let writes = Pool::new(location, connections).ok_or_else(no_server)?;
        let backend = reads.backend();
        let reader = proxy(backend, Reads(reads)).await?;
        let tally = Tally::default();
        Ok((Server { writes, tally }, reader))
    }

    /// What has happened to transactions so far.
    pub(super) fn counters(&self) -> Counters {
        self.tally.counters()
    }

    /// A number that no other call has answered or will: what has been read holds for nobody, because
    /// other processes write, too.
    pub(super) fn version(&self) -> u64 {
        self.tally.unique()
    }

    /// Runs `work` in a transaction, once more as a whole when that is of use, and commits it.
    pub(super) async fn run(
        self: &Arc<Self>,
        keep: bool,
        participant: Option<Arc<dyn Participant>>,
        work: Box<dyn Work>,
    ) -> Result<Value> {
        let server = self.clone();
        // A caller that goes away does not end a transaction half-way.
        let all = tokio::spawn(async move {
            let mut last = None;
            for attempt in 0..ATTEMPTS {
                if attempt > 0 {
                    server.tally.pause(attempt).await;
                }
                if let Some(participant) = &participant {
                    participant.begun();
                }
                match server.once(keep, participant.as_deref(), work.again()).await {
                    End::Done(result) => {
                        if let (Err(_), Some(participant)) = (&result, &participant) {
                            participant.undone();
                        }
                        return result;
                    }
                    End::Again(failure) => {
                        tracing::debug!(%failure, attempt, "a transaction is run again");
                        server.tally.again();
                        if let Some(participant) = &participant {
                            participant.undone();
                        }
                        last = Some(failure);
                    }
                }
            }
            server.tally.gave_up();
            let why = last.map_or_else(String::new, |failure| failure.to_string());
            Err(Error::Unavailable(format!(
                "the database: {ATTEMPTS} times: {why}"
            )))
        });
        let gone = |_| Error::Internal("a transaction's task has ended".into());
        all.await.map_err(gone)?
    }

    /// A connection on which a transaction has begun, with the server's name for it.
    async fn begin(&self) -> Result<(Arc<Session>, Option<String>), Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            // A caller that has waited for a connection in vain has waited long enough.
            let session = Session::new(self.writes.acquire().await?, Mode::Owned);
            match commit::begin(&session, self.writes.backend()).await {
                Ok(name) => return Ok((session, name)),
                // One that went while it idled: there may be more of them.
                Err(failure) if failure.fault == Fault::Lost && !failure.is_late() && tries < TRIES => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn once(&self, keep: bool, participant: Option<&dyn Participant>, work: Box<dyn Work>) -> End {
        let marker = Marker::new();
        let (session, backend) = match self.begin().await {
            Ok(begun) => begun,
            Err(failure) => return End::Done(Err(failed(failure.told()))),
        };
        let result = inside(&session, self.writes.backend(), participant, work).await;
        if result.is_ok() && retry::conflict_planned() {
            session.conflict(self.writes.backend()).await;
        }
        if let Some(doom) = session.doom().await {
            if doom.fault == Fault::Again {
                commit::undo(&session).await;
            } else {
                // The server may not know yet, and keep the session's locks.
                let pool = self.writes.clone();
                tokio::spawn(async move { commit::end_idle(&pool, backend.as_deref()).await });
            }
            return End::Again(doom);
        }
        if result.is_err() || !keep {
            let raced = matches!(result, Err(Error::Internal(_))) && session.found_taken().await;
            commit::undo(&session).await;
            // A key was found taken that the work had not found there when it looked: another one has
            // committed it in between. When it looks again it finds it.
            return match result {
                Err(Error::Internal(text)) if raced => End::Again(Failure::kind(text)),
                result => End::Done(result),
            };
        }
        if session.is_refused().await {
            commit::undo(&session).await;
            let text = "a statement has failed and its transaction was to be committed all the same";
            return End::Done(Err(Error::Internal(text.into())));
        }
        match marker.commit(&session, &self.writes, backend).await {
            Outcome::Committed => {
                self.tally.committed(&self.writes);
                End::Done(result)
            }
            Outcome::Resolved => {
                self.tally.resolved();
                End::Done(result)
            }
            Outcome::NotCommitted(failure) if failure.fault == Fault::Statement => {
                End::Done(Err(failed(failure.told())))
            }
            Outcome::NotCommitted(failure) => End::Again(failure),
            Outcome::Unknown(failure) => {
                self.tally.unknown();
                let text = format!("the outcome of a commit is not known: {failure}");
                End::Done(Err(Error::Unavailable(text)))
            }
        }
    }
}

/// Runs the work, and the participant's after it, on a session whose transaction has begun.
async fn inside(
    session: &Arc<Session>,
    backend: sea_orm::DbBackend,
    participant: Option<&dyn Participant>,
    work: Box<dyn Work>,
) -> Result<Value> {
    let conn = proxy(backend, Handle(session.clone())).await?;
    let txn = conn.begin().await.map_err(failed)?;
    // A panic is the end of one request.
    let run = AssertUnwindSafe(async {
        let value = work.run(&txn).await?;
        if let Some(participant) = participant {
            participant.write(&txn).await?;
        }
        Ok(value)
    });
    let result = run.catch_unwind().await;
    let result = result.unwrap_or_else(|_| Err(Error::Internal("a transaction panicked".into())));
    // For sea-orm alone: the session's owner ends the transaction itself.
    txn.commit().await.map_err(failed)?;
    result
}

/// A connection of sea-orm over one of ours.
async fn proxy(
    backend: sea_orm::DbBackend,
    database: impl ProxyDatabaseTrait + 'static,
) -> Result<DatabaseConnection> {
    let database: Box<dyn ProxyDatabaseTrait> = Box::new(database);
    let connection = Database::connect_proxy(backend, Arc::new(database)).await;
    connection.map_err(failed)
}

/// A connection whose transactions see the rows of one moment.
///
/// # Errors
/// When the server is away.
pub(super) async fn snapshots(location: &Location) -> Result<DatabaseConnection> {
    let pool = Pool::new(location, 1).ok_or_else(|| Error::Internal("a file is no server".into()))?;
    let conn = pool.acquire().await.map_err(|failure| failed(failure.told()))?;
    proxy(pool.backend(), Handle(Session::new(conn, Mode::Snapshot))).await
}

/// The connections for reads. Each statement takes one that is free.
#[derive(Debug)]
struct Reads(Pool);

/// How many connections are tried that turn out to be gone; more than a pool usually has.
const TRIES: usize = 24;

#[async_trait]
impl ProxyDatabaseTrait for Reads {
    async fn query(&self, statement: Statement) -> Result<Vec<ProxyRow>, DbErr> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut conn = self.0.acquire().await.map_err(|failure| failure.told())?;
            match conn.query(&statement).await {
                Ok(rows) => return Ok(rows),
                Err(failure) if failure.fault == Fault::Lost => {
                    let late = failure.is_late();
                    conn.cut();
                    if tries == TRIES || late {
                        return Err(failure.told());
                    }
                }
                Err(failure) => return Err(failure.told()),
            }
        }
    }

    async fn execute(&self, _: Statement) -> Result<ProxyExecResult, DbErr> {
        // What is to be kept goes through `Store::write`.
        Err(Failure::kind("connections for reads change nothing").told())
    }
}

#[cfg(test)]
mod tests;

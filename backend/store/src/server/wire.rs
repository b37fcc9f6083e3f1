//! The connection pool of a server of either kind, with a limit to everything that is waited for.

use std::time::Duration;

use sea_orm::{DbBackend, ProxyExecResult, ProxyRow, Statement, Value};
use sqlx::{
    MySql, MySqlPool, PgPool, Postgres,
    pool::{PoolConnection, PoolConnectionMetadata, PoolOptions},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    fault::{Failure, Fault},
    mysql, postgres,
};
use crate::Location;

/// How long a transaction waits for a connection: for a free one, and for the server.
const ACQUIRE: Duration = Duration::from_secs(4);
/// The pause after the first connection that was cut while it was made; each further one is twice as long.
const AGAIN: Duration = Duration::from_millis(10);
/// How long a statement may take.
const STATEMENT: Duration = Duration::from_secs(10);
/// How long a statement waits for a lock; its transaction is then run again.
pub(super) const LOCKS: Duration = Duration::from_secs(4);
/// How long the server lets a transaction idle, whose client may be gone without a word.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// Statements that a connection keeps prepared.
pub(super) const PREPARED: usize = 512;
/// After a pause as long as this a connection is tried before it is used.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether a connection has idled for so long that it may have gone.
pub(super) fn idle_for_long(meta: &PoolConnectionMetadata) -> bool {
    meta.idle_for >= PAUSE
}

/// A statement's value, of one of the kinds that columns have.
pub(super) enum Plain<'a> {
    Number(Option<i64>),
    Flag(Option<bool>),
    Text(Option<&'a str>),
}

/// A statement's values, in their order.
pub(super) fn plain(statement: &Statement) -> impl Iterator<Item = Result<Plain<'_>, Failure>> {
    let values = statement.values.as_ref();
    values.into_iter().flat_map(|values| &values.0).map(|value| {
        Ok(match value {
            Value::BigInt(n) => Plain::Number(*n),
            Value::Int(n) => Plain::Number(n.map(i64::from)),
            Value::SmallInt(n) => Plain::Number(n.map(i64::from)),
            Value::TinyInt(n) => Plain::Number(n.map(i64::from)),
            Value::Unsigned(n) => Plain::Number(n.map(i64::from)),
            Value::BigUnsigned(n) => {
                let signed = n.map(i64::try_from).transpose();
                Plain::Number(signed.map_err(|_| Failure::kind("a number that is too large"))?)
            }
            Value::Bool(b) => Plain::Flag(*b),
            Value::String(text) => Plain::Text(text.as_deref()),
            // The kind alone: a value may be a secret.
            other => {
                let kind = std::mem::discriminant(other);
                return Err(Failure::kind(format!("a value that no column has: {kind:?}")));
            }
        })
    })
}

/// Connections to a server.
#[derive(Clone, Debug)]
pub(super) enum Pool {
    Postgres(PgPool),
    MySql(MySqlPool),
}

impl Pool {
    /// A pool of at most so many connections; `None` for what is no server. Nothing is connected yet.
    pub(super) fn new(location: &Location, connections: u32) -> Option<Self> {
        match location {
            Location::Sqlite(_) => None,
            Location::Postgres(options) => Some(Pool::Postgres(postgres::pool(options, limits(connections)))),
            Location::MySql(options) => Some(Pool::MySql(mysql::pool(options, limits(connections)))),
        }
    }

    pub(super) fn backend(&self) -> DbBackend {
        match self {
            Pool::Postgres(_) => DbBackend::Postgres,
            Pool::MySql(_) => DbBackend::MySql,
        }
    }

    /// A connection of its own until it is dropped. One that is cut while it is made is made anew: the server may be
    /// ending its sessions, as it does when it restarts, and the caller has lost nothing yet.
    pub(super) async fn acquire(&self) -> Result<Conn, Failure> {
        let until = Instant::now() + ACQUIRE;
        let mut pause = AGAIN;
        loop {
            // The pool's own limit does not count a connection that is being tried.
            let error = match timeout_at(until + PAUSE, self.kind()).await {
                Ok(Ok(kind)) => {
                    return Ok(Conn {
                        kind,
                        limit: STATEMENT,
                    });
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(Failure::lost("no connection in time")),
            };
            // Whatever keeps one from connecting (a wrong password, too) keeps one from the database.
            let told = Failure::lost(error.to_string());
            if matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)
                || Failure::from(error).fault != Fault::Lost
                || Instant::now() + pause >= until
            {
                return Err(told);
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    async fn kind(&self) -> Result<ServerKind, sqlx::Error> {
        Ok(match self {
            Pool::Postgres(pool) => ServerKind::Postgres(pool.acquire().await?),
            Pool::MySql(pool) => ServerKind::MySql(pool.acquire().await?),
        })
    }
}

fn limits<DB: sqlx::Database>(connections: u32) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(ACQUIRE)
        .idle_timeout(Duration::from_mins(5))
        .max_lifetime(Duration::from_mins(30))
        // Only after a pause: see `idle_for_long`.
        .test_before_acquire(false)
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    kind: ServerKind,
    limit: Duration,
}

#[derive(Debug)]
enum ServerKind {
    Postgres(PoolConnection<Postgres>),
    MySql(PoolConnection<MySql>),
}

impl Conn {
    /// The same, with another limit to what a statement may take.
    pub(super) fn patient(self, limit: Duration) -> Self {
        Conn { limit, ..self }
    }

    /// Whether it is PostgreSQL's.
    pub(super) fn is_postgres(&self) -> bool {
        matches!(self.kind, ServerKind::Postgres(_))
    }

    /// Runs a query.
    pub(super) async fn query(&mut self, statement: &Statement) -> Result<Vec<ProxyRow>, Failure> {
        let run = async {
            match &mut self.kind {
                ServerKind::Postgres(conn) => postgres::query(conn, statement).await,
                ServerKind::MySql(conn) => mysql::query(conn, statement).await,
            }
        };
        timeout(self.limit, run)
            .await
            .unwrap_or_else(|_| Err(Failure::late()))
    }

    /// Runs a statement.
    pub(super) async fn execute(&mut self, statement: &Statement) -> Result<ProxyExecResult, Failure> {
        let run = async {
            Ok(match &mut self.kind {
                ServerKind::Postgres(conn) => {
                    ProxyExecResult::new(0, postgres::execute(conn, statement).await?)
                }
                ServerKind::MySql(conn) => {
                    let (matched, id) = mysql::execute(conn, statement).await?;
                    ProxyExecResult::new(id, matched)
                }
            })
        };
        timeout(self.limit, run)
            .await
            .unwrap_or_else(|_| Err(Failure::late()))
    }

    /// Runs statements without values, one after the other up to the first that fails; the last row's first
    /// column, which is to be a text.
    pub(super) async fn simple(&mut self, sql: String) -> Result<Option<String>, Failure> {
        let run = async {
            match &mut self.kind {
                ServerKind::Postgres(conn) => postgres::simple(conn, sql).await,
                ServerKind::MySql(conn) => mysql::simple(conn, sql).await,
            }
        };
        timeout(self.limit, run)
            .await
            .unwrap_or_else(|_| Err(Failure::late()))
    }

    /// Cuts the connection, which does not go back into its pool.
    pub(super) fn cut(self) {
        match self.kind {
            ServerKind::Postgres(conn) => drop(conn.detach()),
            ServerKind::MySql(conn) => drop(conn.detach()),
        }
    }
}

//! Begin and commit on a server, with the outcome of a commit whose connection was cut.
//!
//! A commit leaves a marker: a row in `commits` under a random key, which is there exactly if the rest of
//! the transaction is. When the connection is cut while the commit is under way, another connection writes
//! the same key. If that fails because the key is there, the transaction has been committed. If it succeeds
//! the transaction has not been committed, and never can be any more: its own marker would be the second
//! one. If it has to wait, the transaction is still open, and its session is ended. This holds through the
//! server's crash and its restart, too, where PostgreSQL's numbers of transactions might be given out again.

use std::time::Duration;

use sea_orm::DbBackend;
use tokio::time::{Instant, sleep};

use super::{
    fault::{Failure, Fault},
    session::Session,
    wire::Pool,
};

/// How long the outcome of a cut commit is asked for.
const PATIENCE: Duration = Duration::from_secs(8);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// How old a marker becomes, far longer than any caller waits.
const KEPT: Duration = Duration::from_hours(1);

/// Begins a transaction; the server's name for the session.
pub(super) async fn begin(session: &Session, backend: DbBackend) -> Result<Option<String>, Failure> {
    session
        .simple(match backend {
            DbBackend::MySql => "START TRANSACTION; SELECT CAST(CONNECTION_ID() AS CHAR)",
            _ => "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_backend_pid()::text",
        })
        .await
}

/// Undoes a transaction and gives the connection back.
pub(super) async fn undo(session: &Session) {
    let Some(mut conn) = session.take().await else {
        return;
    };
    if conn.simple("ROLLBACK".into()).await.is_err() {
        conn.cut();
    }
}

/// What became of a commit.
#[derive(Debug)]
pub(super) enum Outcome {
    Committed,
    /// Committed, as the marker told afterwards.
    Resolved,
    NotCommitted(Failure),
    Unknown(Failure),
}

/// A transaction's marker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marker(i64);

impl Marker {
    pub(super) fn new() -> Self {
        Marker(rand::random())
    }

    fn insert(self, backend: DbBackend) -> String {
        let now = milliseconds(backend);
        format!("INSERT INTO commits (id, created_at) VALUES ({}, {now})", self.0)
    }

    /// Commits the session's transaction.
    pub(super) async fn commit(self, session: &Session, pool: &Pool, name: Option<String>) -> Outcome {
        let sql = format!("{}; COMMIT", self.insert(pool.backend()));
        match session.simple(&sql).await {
            Ok(_) => {
                drop(session.take().await);
                Outcome::Committed
            }
            // The server has answered.
            Err(failure) if failure.fault != Fault::Lost => {
                undo(session).await;
                Outcome::NotCommitted(failure)
            }
            Err(failure) => {
                if let Some(conn) = session.take().await {
                    conn.cut();
                }
                self.resolve(pool, name, failure).await
            }
        }
    }

    async fn resolve(self, pool: &Pool, name: Option<String>, cause: Failure) -> Outcome {
        tracing::warn!(%cause, "a connection was lost while it committed");
        let until = Instant::now() + PATIENCE;
        loop {
            match self.mark(pool).await {
                Ok(()) => {
                    end_idle(pool, name.as_deref()).await;
                    return Outcome::NotCommitted(cause);
                }
                Err(failure) if failure.is_taken() => return Outcome::Resolved,
                Err(failure) if Instant::now() >= until => return Outcome::Unknown(failure),
                Err(failure) if failure.fault == Fault::Again => end(pool, name.as_deref()).await,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn mark(self, pool: &Pool) -> Result<(), Failure> {
        let mut conn = pool.acquire().await?;
        let done = conn.simple(self.insert(pool.backend())).await;
        if matches!(&done, Err(failure) if failure.fault == Fault::Lost) {
            conn.cut();
        }
        done.map(drop)
    }
}

/// Ends a session that has kept its transaction open although its connection is gone.
async fn end(pool: &Pool, name: Option<&str>) {
    let Some(number) = name.and_then(|name| name.parse::<u64>().ok()) else {
        return;
    };
    let sql = match pool.backend() {
        DbBackend::MySql => format!("KILL {number}"),
        _ => format!("SELECT pg_terminate_backend({number})::text"),
    };
    if let Ok(mut conn) = pool.acquire().await
        && let Err(failure) = conn.simple(sql).await
    {
        tracing::debug!(%failure, "a session that was to be ended");
    }
}

/// Ends a session whose client is gone, should the server still keep its transaction open, and its locks.
pub(super) async fn end_idle(pool: &Pool, name: Option<&str>) {
    let Some(number) = name.and_then(|name| name.parse::<u64>().ok()) else {
        return;
    };
    if pool.backend() == DbBackend::MySql {
        return end(pool, name).await;
    }
    // The number may be another session's by now, which is not ended in the midst of its work.
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
         WHERE pid = {number} AND state LIKE 'idle in transaction%'"
    );
    if let Ok(mut conn) = pool.acquire().await
        && let Err(failure) = conn.simple(sql).await
    {
        tracing::debug!(%failure, "a session that was to be ended");
    }
}

/// Deletes old markers.
pub(super) async fn sweep(pool: &Pool) {
    let (now, kept) = (milliseconds(pool.backend()), KEPT.as_millis());
    let sql = format!("DELETE FROM commits WHERE created_at < {now} - {kept}");
    if let Ok(mut conn) = pool.acquire().await
        && let Err(failure) = conn.simple(sql).await
    {
        tracing::warn!(%failure, "old markers of commits");
    }
}

/// The server's clock: one for all processes.
fn milliseconds(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::MySql => "CAST(UNIX_TIMESTAMP() * 1000 AS SIGNED)",
        _ => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    }
}

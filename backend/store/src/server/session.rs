//! A database session for one transaction: what sea-orm begins inside are savepoints. Its proxy has no way to
//! tell that a begin or an end has failed, so the session remembers it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use sea_orm::{DbBackend, DbErr, ProxyDatabaseTrait, ProxyExecResult, ProxyRow, Statement};
use tokio::sync::Mutex;

use super::{
    fault::{Failure, Fault},
    wire::Conn,
};

/// What a session's begin and commit are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The outermost is the owner's own, who begins and commits it; those inside are savepoints.
    Owned,
    /// All are savepoints of a transaction that the owner begins and commits.
    Nested,
    /// There are none: each statement stands alone.
    None,
    /// The outermost is a transaction that only reads, and sees the rows of one moment.
    Snapshot,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    mode: Mode,
    state: Mutex<State>,
    /// Savepoints that were dropped without an end, to be undone before anything else.
    dropped: AtomicUsize,
}

#[derive(Debug)]
struct State {
    conn: Option<Conn>,
    /// Begins without an end.
    depth: usize,
    /// What has ended the transaction before its time. Nothing is sent from then on: MariaDB would take it
    /// for a transaction of its own.
    doom: Option<Failure>,
    /// At which depth a statement has failed, after which PostgreSQL refuses everything up to the end of that
    /// savepoint, and takes a commit for a rollback.
    refused: Option<usize>,
    /// A unique key was found taken.
    taken: bool,
}

impl Session {
    pub(super) fn new(conn: Conn, mode: Mode) -> Arc<Self> {
        Arc::new(Session {
            mode,
            state: Mutex::new(State {
                conn: Some(conn),
                depth: 0,
                doom: None,
                refused: None,
                taken: false,
            }),
            dropped: AtomicUsize::new(0),
        })
    }

    /// What has ended the transaction before its time.
    pub(super) async fn doom(&self) -> Option<Failure> {
        self.settled().await.doom.clone()
    }

    /// Whether a statement's failure stands that makes a commit impossible.
    pub(super) async fn is_refused(&self) -> bool {
        self.settled().await.refused.is_some()
    }

    /// Whether a unique key was found taken.
    pub(super) async fn found_taken(&self) -> bool {
        self.settled().await.taken
    }

    /// Runs statements without values, outside of what sea-orm knows.
    pub(super) async fn simple(&self, sql: &str) -> Result<Option<String>, Failure> {
        self.state.lock().await.simple(sql).await
    }

    /// Has the server give the transaction up, as it does one of two that wait for each other.
    pub(super) async fn conflict(&self, backend: DbBackend) {
        let sql = match backend {
            DbBackend::MySql => {
                "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'a deadlock that a test wanted'"
            }
            _ => {
                "DO $$ BEGIN RAISE EXCEPTION 'a deadlock that a test wanted' USING ERRCODE = '40P01'; END $$"
            }
        };
        if self.simple(sql).await.is_ok() {
            tracing::error!("the server did not give a transaction up that it was told to");
        }
    }

    /// The connection, for the transaction that began the session.
    pub(super) async fn take(&self) -> Option<Conn> {
        self.state.lock().await.conn.take()
    }

    async fn settled(&self) -> tokio::sync::MutexGuard<'_, State> {
        let mut state = self.state.lock().await;
        for _ in 0..self.dropped.swap(0, Ordering::AcqRel) {
            state.end(self.mode, false).await;
        }
        state
    }
}

impl State {
    fn conn(&mut self) -> Result<&mut Conn, Failure> {
        if let Some(doom) = &self.doom {
            return Err(doom.clone());
        }
        self.conn
            .as_mut()
            .ok_or_else(|| Failure::lost("the session is over"))
    }

    fn noted<T>(&mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &done {
            match failure.fault {
                Fault::Statement => {
                    self.taken |= failure.is_taken();
                    if self.depth > 0 && self.conn.as_ref().is_some_and(Conn::is_postgres) {
                        self.refused.get_or_insert(self.depth);
                    }
                }
                Fault::Again | Fault::Lost => {
                    self.doom.get_or_insert_with(|| failure.clone());
                }
            }
        }
        done
    }

    async fn simple(&mut self, sql: &str) -> Result<Option<String>, Failure> {
        let done = self.conn()?.simple(sql.to_owned()).await;
        self.noted(done)
    }

    /// Like `simple`, where nobody can be told.
    async fn control(&mut self, sql: &str) {
        if let Err(failure) = self.simple(sql).await
            && self.doom.is_none()
        {
            tracing::debug!(%failure, sql, "a savepoint");
        }
    }

    async fn begin(&mut self, mode: Mode) {
        self.depth += 1;
        match (mode, self.depth) {
            (Mode::None, _) | (Mode::Owned, 1) => {}
            (Mode::Snapshot, 1) => {
                let sql = if self.conn.as_ref().is_some_and(Conn::is_postgres) {
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
                } else {
                    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                     START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
                };
                self.control(sql).await;
            }
            (_, depth) => self.control(&format!("SAVEPOINT s{depth}")).await,
        }
    }

    async fn end(&mut self, mode: Mode, keep: bool) {
        let depth = self.depth;
        match (mode, depth) {
            (Mode::None, _) | (_, 0) | (Mode::Owned, 1) => {}
            (Mode::Snapshot, 1) => {
                self.refused = None;
                self.control("ROLLBACK").await;
            }
            _ if keep => self.control(&format!("RELEASE SAVEPOINT s{depth}")).await,
            _ => {
                let sql = format!("ROLLBACK TO SAVEPOINT s{depth}; RELEASE SAVEPOINT s{depth}");
                let done = self.simple(&sql).await;
                if done.is_ok() && self.refused.is_some_and(|at| at >= depth) {
                    self.refused = None;
                }
            }
        }
        self.depth = depth.saturating_sub(1);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // Nobody has taken it back: a transaction may still be open.
        if let Some(conn) = self.conn.take() {
            conn.cut();
        }
    }
}

/// sea-orm's view of a session.
#[derive(Debug)]
pub(super) struct Handle(pub(super) Arc<Session>);

#[async_trait]
impl ProxyDatabaseTrait for Handle {
    async fn query(&self, statement: Statement) -> Result<Vec<ProxyRow>, DbErr> {
        let mut state = self.0.settled().await;
        let conn = state.conn().map_err(|failure| failure.told())?;
        let done = conn.query(&statement).await;
        state.noted(done).map_err(|failure| failure.told())
    }

    async fn execute(&self, statement: Statement) -> Result<ProxyExecResult, DbErr> {
        let mut state = self.0.settled().await;
        let conn = state.conn().map_err(|failure| failure.told())?;
        let done = conn.execute(&statement).await;
        state.noted(done).map_err(|failure| failure.told())
    }

    async fn begin(&self) {
        self.0.settled().await.begin(self.0.mode).await;
    }

    async fn commit(&self) {
        self.0.settled().await.end(self.0.mode, true).await;
    }

    async fn rollback(&self) {
        self.0.settled().await.end(self.0.mode, false).await;
    }

    fn start_rollback(&self) {
        self.0.dropped.fetch_add(1, Ordering::AcqRel);
    }
}

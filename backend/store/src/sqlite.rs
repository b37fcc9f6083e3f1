//! The SQLite driver under sea-orm, without a thread in between. The driver that sea-orm brings sends each
//! statement to a thread of its own and waits, which costs several times what SQLite takes for the statement.
//! Here sea-orm's proxy hands a statement to rusqlite, which runs it at once on the caller's thread.
//!
//! A row that comes through the proxy knows its columns by name alone, sorted. Reading by position
//! (`into_tuple`) is therefore wrong for more than one column: see [`super::column`].

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cumulet_domain::{Error, Result};
use rusqlite::{
    Connection,
    backup::Backup,
    config::DbConfig,
    types::{ToSqlOutput, ValueRef},
};
use sea_orm::{
    DbErr, ProxyDatabaseTrait, ProxyExecResult, ProxyRow, RuntimeErr, Statement, Value, sea_query::Values,
};

use super::{TAKEN, lanes::Urgent};

/// Statements that a connection keeps prepared.
const PREPARED: usize = 512;

/// Rows after which a reader lets others of its thread go first.
const LONG: usize = 256;

/// Opens the file. WAL, so that reads never wait for the writer; FULL, so that what is acknowledged
/// survives power loss.
///
/// # Errors
/// When it can't be opened.
fn open(path: &Path, query_only: bool) -> Result<Connection> {
    let connection = Connection::open(path).map_err(unavailable)?;
    for (name, value) in [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("foreign_keys", "ON"),
        // KiB. What a reader lacks is in the kernel's cache.
        ("cache_size", if query_only { "-2048" } else { "-8192" }),
        // Pages that change again and again are copied back once, not every four megabytes.
        ("wal_autocheckpoint", "4096"),
        ("temp_store", "MEMORY"),
        ("query_only", if query_only { "ON" } else { "OFF" }),
    ] {
        connection
            .pragma_update_and_check(None, name, value, |_| Ok(()))
            .or_else(|error| match error {
                // Most pragmas answer no row.
                rusqlite::Error::QueryReturnedNoRows => Ok(()),
                error => Err(error),
            })
            .map_err(unavailable)?;
    }
    connection
        .busy_timeout(Duration::from_secs(10))
        .map_err(unavailable)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    // Else a statement is prepared anew whenever a value might call for another plan.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(unavailable)?;
    Ok(connection)
}

fn unavailable(error: rusqlite::Error) -> Error {
    Error::Unavailable(format!("the database: {error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics between two halves of a change: transactions are SQLite's own.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections for reads. A read takes the first that is free.
#[derive(Debug)]
pub(super) struct Readers {
    connections: Vec<Mutex<Connection>>,
    next: AtomicUsize,
}

impl Readers {
    /// Opens so many connections, at least one.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub(super) fn open(path: &Path, count: u32) -> Result<Self> {
        let connections = (0..count.max(1))
            .map(|_| open(path, true).map(Mutex::new))
            .collect::<Result<_>>()?;
        let next = AtomicUsize::new(0);
        Ok(Readers { connections, next })
    }

    fn free(&self) -> MutexGuard<'_, Connection> {
        let count = self.connections.len();
        let start = self.next.load(Ordering::Relaxed);
        for i in 0..count {
            if let Some(Ok(free)) = self.connections.get((start + i) % count).map(Mutex::try_lock) {
                return free;
            }
        }
        // All are at work: wait for one, not always the same.
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % count;
        lock(&self.connections[turn])
    }
}

#[async_trait]
impl ProxyDatabaseTrait for Readers {
    async fn query(&self, statement: Statement) -> Result<Vec<ProxyRow>, DbErr> {
        let rows = query(&self.free(), &statement)?;
        if rows.len() >= LONG {
            tokio::task::yield_now().await;
        }
        Ok(rows)
    }

    async fn execute(&self, statement: Statement) -> Result<ProxyExecResult, DbErr> {
        execute(&self.free(), &statement)
    }
}

/// The connection of the one writer. What sea-orm begins on it are savepoints; the transaction around
/// them is the writer's.
#[derive(Debug)]
pub(super) struct WriteConnection(Mutex<State>);

#[derive(Debug)]
struct State {
    connection: Connection,
    /// Savepoints that are open.
    depth: usize,
    /// Changes that wait, to which a rehearsal gives way.
    urgent: Urgent,
    /// Whether what runs is to be broken off when one comes, and whether it was.
    gives_way: bool,
    broken_off: bool,
    /// The first failure to open or end a savepoint, which sea-orm's proxy has no way to tell.
    damage: Option<String>,
}

impl State {
    fn control(&mut self, sql: &str) {
        let done = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut s| s.execute([]));
        if let Err(error) = done {
            self.damage.get_or_insert_with(|| format!("{sql}: {error}"));
        }
    }

    /// The connection, unless what has begun on it was ended by SQLite itself: what came then would be
    /// kept at once and alone.
    fn inside(&mut self) -> Result<&Connection, DbErr> {
        if self.gives_way && self.urgent.is() {
            self.broken_off = true;
            let text = "the rehearsal gives way to a change".to_owned();
            return Err(DbErr::Exec(RuntimeErr::Internal(text)));
        }
        if self.depth > 0 && self.connection.is_autocommit() {
            let text = "the database ended the transaction".to_owned();
            return Err(DbErr::Exec(RuntimeErr::Internal(text)));
        }
        Ok(&self.connection)
    }

    fn end(&mut self, keep: bool) {
        let depth = self.depth;
        if !keep {
            self.control(&format!("ROLLBACK TO s{depth}"));
        }
        self.control(&format!("RELEASE s{depth}"));
        self.depth = depth.saturating_sub(1);
    }
}

impl WriteConnection {
    /// Opens it.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self::of(open(path, false)?))
    }

    fn of(connection: Connection) -> Self {
        WriteConnection(Mutex::new(State {
            connection,
            depth: 0,
            urgent: Urgent::default(),
            gives_way: false,
            broken_off: false,
            damage: None,
        }))
    }

    /// Rehearsals give way to these.
    pub(super) fn give_way_to(&self, urgent: Urgent) {
        lock(&self.0).urgent = urgent;
    }

    /// Whether what runs now gives way to changes. Answers whether what ran before has.
    pub(super) fn gives_way(&self, gives_way: bool) -> bool {
        let mut state = lock(&self.0);
        state.gives_way = gives_way;
        std::mem::take(&mut state.broken_off)
    }

    /// One of its own in memory, with all that `from` has.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn in_memory(from: Option<&WriteConnection>) -> Result<Self> {
        let mut connection = Connection::open_in_memory().map_err(unavailable)?;
        if let Some(from) = from {
            let from = lock(&from.0);
            let copy = Backup::new(&from.connection, &mut connection).map_err(unavailable)?;
            copy.step(-1).map_err(unavailable)?;
        }
        connection
            .pragma_update(None, "foreign_keys", "ON")
            .map_err(unavailable)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(unavailable)?;
        Ok(Self::of(connection))
    }

    /// Begins the transaction.
    ///
    /// # Errors
    /// When another process holds the file for too long, or the disk fails.
    pub(super) fn begin(&self) -> Result<()> {
        let mut state = lock(&self.0);
        (state.depth, state.damage) = (0, None);
        run(&state.connection, "BEGIN IMMEDIATE")
    }

    /// Whether the transaction is still there: SQLite itself ends it when the disk is full or fails.
    ///
    /// # Errors
    /// When it is lost.
    pub(super) fn intact(&self) -> Result<()> {
        let state = lock(&self.0);
        match &state.damage {
            Some(damage) => Err(Error::Unavailable(format!("the database: {damage}"))),
            None if state.connection.is_autocommit() => Err(Error::Unavailable(
                "the database ended a transaction by itself".into(),
            )),
            None => Ok(()),
        }
    }

    /// Commits the transaction, durably.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn commit(&self) -> Result<()> {
        run(&lock(&self.0).connection, "COMMIT")
    }

    /// Undoes the transaction, if there still is one.
    pub(super) fn rollback(&self) {
        let state = lock(&self.0);
        if !state.connection.is_autocommit()
            && let Err(error) = run(&state.connection, "ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be undone");
        }
    }
}

fn run(connection: &Connection, sql: &str) -> Result<()> {
    let done = connection.prepare_cached(sql).and_then(|mut s| s.execute([]));
    done.map(drop).map_err(unavailable)
}

/// sea-orm's view of the writer's connection.
#[derive(Debug)]
pub(super) struct Savepoints(pub(super) std::sync::Arc<WriteConnection>);

#[async_trait]
impl ProxyDatabaseTrait for Savepoints {
    async fn query(&self, statement: Statement) -> Result<Vec<ProxyRow>, DbErr> {
        query(lock(&self.0.0).inside()?, &statement)
    }

    async fn execute(&self, statement: Statement) -> Result<ProxyExecResult, DbErr> {
        execute(lock(&self.0.0).inside()?, &statement)
    }

    async fn begin(&self) {
        let mut state = lock(&self.0.0);
        state.depth += 1;
        let sql = format!("SAVEPOINT s{}", state.depth);
        state.control(&sql);
    }

    async fn commit(&self) {
        lock(&self.0.0).end(true);
    }

    async fn rollback(&self) {
        lock(&self.0.0).end(false);
    }

    fn start_rollback(&self) {
        lock(&self.0.0).end(false);
    }
}

fn query(connection: &Connection, statement: &Statement) -> Result<Vec<ProxyRow>, DbErr> {
    let mut prepared = connection
        .prepare_cached(&statement.sql)
        .map_err(|error| DbErr::Query(told(&error)))?;
    let names: Vec<String> = prepared.column_names().into_iter().map(String::from).collect();
    bind(&mut prepared, statement.values.as_ref())?;
    let mut found = prepared.raw_query();
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(|error| DbErr::Query(told(&error)))? {
        let mut values = BTreeMap::new();
        for (i, name) in names.iter().enumerate() {
            let value = row.get_ref(i).map_err(|error| DbErr::Query(told(&error)))?;
            values.insert(name.clone(), value_of(value)?);
        }
        rows.push(ProxyRow::new(values));
    }
    Ok(rows)
}

fn execute(connection: &Connection, statement: &Statement) -> Result<ProxyExecResult, DbErr> {
    let mut prepared = connection
        .prepare_cached(&statement.sql)
        .map_err(|error| DbErr::Exec(told(&error)))?;
    bind(&mut prepared, statement.values.as_ref())?;
    let affected = prepared
        .raw_execute()
        .map_err(|error| DbErr::Exec(told(&error)))?;
    Ok(ProxyExecResult::new(
        connection.last_insert_rowid().cast_unsigned(),
        affected as u64,
    ))
}

fn told(error: &rusqlite::Error) -> RuntimeErr {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE};
    let code = error.sqlite_error().map(|error| error.extended_code);
    RuntimeErr::Internal(match code {
        Some(SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_ROWID) => {
            format!("{TAKEN}{error}")
        }
        _ => error.to_string(),
    })
}

fn bind(prepared: &mut rusqlite::Statement<'_>, values: Option<&Values>) -> Result<(), DbErr> {
    let values = values.map_or(&[][..], |values| values.0.as_slice());
    for (i, value) in values.iter().enumerate() {
        prepared
            .raw_bind_parameter(i + 1, parameter(value)?)
            .map_err(|error| DbErr::Exec(told(&error)))?;
    }
    Ok(())
}

/// A value as SQLite takes it. The tables have integers and texts alone (`migrations::portable`).
fn parameter(value: &Value) -> Result<ToSqlOutput<'_>, DbErr> {
    let number = |n: i64| ToSqlOutput::Borrowed(ValueRef::Integer(n));
    let null = ToSqlOutput::Borrowed(ValueRef::Null);
    Ok(match value {
        Value::BigInt(n) => n.map_or(null, number),
        Value::Int(n) => n.map_or(null, |n| number(n.into())),
        Value::SmallInt(n) => n.map_or(null, |n| number(n.into())),
        Value::TinyInt(n) => n.map_or(null, |n| number(n.into())),
        Value::Unsigned(n) => n.map_or(null, |n| number(n.into())),
        Value::BigUnsigned(Some(n)) => number(i64::try_from(*n).map_err(|_| unsupported(value))?),
        Value::BigUnsigned(None) => null,
        Value::Bool(b) => b.map_or(null, |b| number(b.into())),
        Value::String(text) => text.as_ref().map_or(null, |text| {
            ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
        }),
        _ => return Err(unsupported(value)),
    })
}

fn unsupported(value: &Value) -> DbErr {
    // The kind alone: a value may be a secret.
    let kind = std::mem::discriminant(value);
    DbErr::Type(format!("a value that no column has: {kind:?}"))
}

fn value_of(value: ValueRef<'_>) -> Result<Value, DbErr> {
    Ok(match value {
        ValueRef::Null => Value::BigInt(None),
        ValueRef::Integer(n) => Value::BigInt(Some(n)),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|error| DbErr::Type(error.to_string()))?;
            Value::String(Some(text.to_owned()))
        }
        ValueRef::Real(_) | ValueRef::Blob(_) => {
            return Err(DbErr::Type("a value that no column has".into()));
        }
    })
}

#[cfg(test)]
mod tests;

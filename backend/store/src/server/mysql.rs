//! MariaDB and MySQL: values, rows, and what a session is told when it begins.

use std::collections::BTreeMap;

use sea_orm::{ProxyRow, Statement, Value};
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, Executor as _, MySql, MySqlConnection, MySqlPool, Row as _,
    TypeInfo as _, ValueRef as _,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlRow},
    pool::PoolOptions,
};

use super::{
    fault::Failure,
    wire::{IDLE, LOCKS, PREPARED, Plain, idle_for_long, plain},
};

/// Opens a pool; no connection yet. (sqlx asks for `CLIENT_FOUND_ROWS` by itself: an update counts the rows
/// that it matched, as everywhere else, not those whose values were different before.)
pub(super) fn pool(options: &MySqlConnectOptions, settings: PoolOptions<MySql>) -> MySqlPool {
    let options = options.clone().statement_cache_capacity(PREPARED).set_names(true);
    let session = format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION innodb_lock_wait_timeout = {}, \
         sql_mode = 'STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ENGINE_SUBSTITUTION' \
         /*M! , idle_transaction_timeout = {} */",
        LOCKS.as_secs(),
        IDLE.as_secs(),
    );
    settings
        .after_connect(move |conn, _| {
            let session = session.clone();
            Box::pin(async move {
                conn.execute(sqlx::raw_sql(AssertSqlSafe(session)))
                    .await
                    .map(drop)
            })
        })
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if idle_for_long(&meta) {
                    sqlx::Connection::ping(conn).await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// Runs a query.
pub(super) async fn query(
    conn: &mut MySqlConnection,
    statement: &Statement,
) -> Result<Vec<ProxyRow>, Failure> {
    let query = sqlx::query_with(AssertSqlSafe(statement.sql.clone()), arguments(statement)?);
    let rows = query.fetch_all(conn).await?;
    rows.iter().map(row).collect()
}

/// Runs a statement; how many rows it has matched, and the id that the server gave.
pub(super) async fn execute(
    conn: &mut MySqlConnection,
    statement: &Statement,
) -> Result<(u64, u64), Failure> {
    let query = sqlx::query_with(AssertSqlSafe(statement.sql.clone()), arguments(statement)?);
    let done = query.execute(conn).await?;
    Ok((done.rows_affected(), done.last_insert_id()))
}

/// Runs statements without values; the first column of the last row, which is to be a text.
pub(super) async fn simple(conn: &mut MySqlConnection, sql: String) -> Result<Option<String>, Failure> {
    let rows = conn.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    Ok(match rows.last() {
        Some(row) if !row.columns().is_empty() => row.try_get_unchecked(0)?,
        _ => None,
    })
}

fn arguments(statement: &Statement) -> Result<MySqlArguments, Failure> {
    let mut arguments = MySqlArguments::default();
    for value in plain(statement) {
        let added = match value? {
            Plain::Number(n) => arguments.add(n),
            Plain::Flag(b) => arguments.add(b.map(i64::from)),
            Plain::Text(text) => arguments.add(text),
        };
        added.map_err(|error| Failure::kind(error.to_string()))?;
    }
    Ok(arguments)
}

fn row(row: &MySqlRow) -> Result<ProxyRow, Failure> {
    let mut values = BTreeMap::new();
    for (i, column) in row.columns().iter().enumerate() {
        let kind = column.type_info().name();
        values.insert(column.name().to_owned(), value(row, i, kind)?);
    }
    Ok(ProxyRow::new(values))
}

fn value(row: &MySqlRow, i: usize, kind: &str) -> Result<Value, Failure> {
    if row.try_get_raw(i)?.is_null() {
        return Ok(Value::BigInt(None));
    }
    Ok(match kind {
        "BIGINT UNSIGNED" => {
            let number: u64 = row.try_get_unchecked(i)?;
            let number = i64::try_from(number).map_err(|_| Failure::kind("a number that is too large"))?;
            Value::BigInt(Some(number))
        }
        "BIGINT" | "INT" | "MEDIUMINT" | "SMALLINT" | "TINYINT" | "BOOLEAN" => {
            Value::BigInt(Some(row.try_get_unchecked(i)?))
        }
        // What sums of BIGINT have.
        "DECIMAL" => {
            let text: String = row.try_get_unchecked(i)?;
            let number = text
                .parse()
                .map_err(|_| Failure::kind("a number that is not whole"))?;
            Value::BigInt(Some(number))
        }
        "CHAR" | "VARCHAR" | "TEXT" | "TINYTEXT" | "MEDIUMTEXT" | "LONGTEXT" | "VARBINARY" | "BLOB" => {
            Value::String(Some(row.try_get_unchecked(i)?))
        }
        other => return Err(Failure::kind(format!("a column of type {other}"))),
    })
}

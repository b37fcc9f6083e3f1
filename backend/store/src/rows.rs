//! Reads of rows whose columns are typed: a value that stands for nothing is an error that names the table and the
//! row, whoever reads it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use cumulet_domain::{Error, Result, id::Digits};
use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, FromQueryResult, IdenStatic as _, Iterable as _, QueryResult,
    QuerySelect as _, QueryTrait as _, Select,
};

use super::failed;

/// When a damaged row is in the log again.
const AGAIN: Duration = Duration::from_secs(60);

/// Damaged rows that are remembered at the most.
const REMEMBERED: usize = 1024;

/// All rows of a query.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn all<E: EntityTrait>(query: Select<E>, conn: &impl ConnectionTrait) -> Result<Vec<E::Model>> {
    selected::<E, E::Model>(query, conn).await
}

/// The columns that a query selects, of all rows; the entity's key among them, or a damaged row has no name.
///
/// # Errors
/// Those of [`all`].
pub async fn selected<E: EntityTrait, M: FromQueryResult>(
    query: Select<E>,
    conn: &impl ConnectionTrait,
) -> Result<Vec<M>> {
    let rows = conn.query_all(&query.into_query()).await.map_err(failed)?;
    rows.iter().map(decoded::<E, M>).collect()
}

/// One row of a query, if there is any.
///
/// # Errors
/// Those of [`all`].
pub async fn one<E: EntityTrait>(query: Select<E>, conn: &impl ConnectionTrait) -> Result<Option<E::Model>> {
    let row = conn
        .query_one(&query.limit(1).into_query())
        .await
        .map_err(failed)?;
    row.as_ref().map(decoded::<E, E::Model>).transpose()
}

/// What could be read of a query's rows.
#[derive(Debug)]
pub struct Sound<M> {
    /// The rows that stand for something.
    pub rows: Vec<M>,
    /// The keys of the others, where they are numbers; the log names them all. What goes by a row's being there must
    /// know which are left out.
    pub damaged: Vec<i64>,
}

/// The columns that a query selects, of all rows that can be read, for what works for everybody: one damaged row
/// keeps no other from being looked at.
///
/// # Errors
/// Those of the database.
pub async fn sound<E: EntityTrait, M: FromQueryResult>(
    query: Select<E>,
    conn: &impl ConnectionTrait,
) -> Result<Sound<M>> {
    let found = conn.query_all(&query.into_query()).await.map_err(failed)?;
    let mut rows = Vec::with_capacity(found.len());
    let mut damaged = Vec::new();
    for row in &found {
        match decoded::<E, M>(row) {
            Ok(row) => rows.push(row),
            Err(error) => {
                if !said_lately(&error.to_string()) {
                    tracing::error!(%error, "a row is left out");
                }
                let key = E::PrimaryKey::iter().next();
                damaged.extend(key.and_then(|key| row.try_get::<i64>("", key.as_str()).ok()));
            }
        }
    }
    Ok(Sound { rows, damaged })
}

/// Whether the log has this from the last minute: what works for everybody reads the same rows every second.
fn said_lately(words: &str) -> bool {
    static SAID: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    said.retain(|_, at| at.elapsed() < AGAIN);
    if said.contains_key(words) {
        return true;
    }
    if said.len() < REMEMBERED {
        said.insert(words.to_owned(), Instant::now());
    }
    false
}

fn decoded<E: EntityTrait, M: FromQueryResult>(row: &QueryResult) -> Result<M> {
    M::from_query_result(row, "").map_err(|error| damaged_row::<E>(row, &error))
}

fn damaged_row<E: EntityTrait>(row: &QueryResult, error: &DbErr) -> Error {
    let part = |name: &str| {
        // As ids are printed, without the prefix that says of what.
        let number = row.try_get::<i64>("", name);
        let number = number.map(|number| Digits::new(number.cast_unsigned()).to_string());
        number.or_else(|_| row.try_get::<String>("", name))
    };
    let key = E::PrimaryKey::iter().filter_map(|column| part(column.as_str()).ok());
    let key: Vec<String> = key.collect();
    damaged(E::default().table_name(), key.join(", "), error)
}

/// The error of a damaged row.
pub fn damaged(table: &str, row: impl Display, why: impl Display) -> Error {
    Error::Internal(format!("the row {row} of {table} is damaged: {why}"))
}

//! Reads of rows whose columns are typed: a value that stands for nothing is an error that names the table and the
//! row, whoever reads it.

use std::fmt::Display;

use cumulet_domain::{Error, Result};
use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, FromQueryResult, IdenStatic as _, Iterable as _, QueryResult,
    QueryTrait as _, Select,
};

use super::failed;

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

fn decoded<E: EntityTrait, M: FromQueryResult>(row: &QueryResult) -> Result<M> {
    M::from_query_result(row, "").map_err(|error| damaged_row::<E>(row, &error))
}

fn damaged_row<E: EntityTrait>(row: &QueryResult, error: &DbErr) -> Error {
    let part = |name: &str| {
        let number = row.try_get::<i64>("", name).map(|number| number.to_string());
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

/// A number of a row as the type that it is outside of the database.
///
/// # Errors
/// `Internal`, naming the row, where it is none.
pub fn fit<T: TryFrom<i64>>(table: &str, row: impl Display, column: &str, number: i64) -> Result<T> {
    T::try_from(number).map_err(|_| damaged(table, row, format_args!("{column} is {number}")))
}

//! PostgreSQL: values, rows, and what a session is told when it begins.

use std::collections::BTreeMap;

use sea_orm::{ProxyRow, Statement, Value};
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, Decode, Executor as _, PgConnection, PgPool, Postgres,
    Row as _, TypeInfo as _, ValueRef as _,
    pool::PoolOptions,
    postgres::{PgArguments, PgConnectOptions, PgRow, PgValueRef},
};

use super::{
    fault::Failure,
    wire::{IDLE, LOCKS, PREPARED, Plain, idle_for_long, plain},
};

/// Opens a pool; no connection yet.
pub(super) fn pool(options: &PgConnectOptions, settings: PoolOptions<Postgres>) -> PgPool {
    let locks = format!("{}ms", LOCKS.as_millis());
    let idle = format!("{}ms", IDLE.as_millis());
    let options = options
        .clone()
        .application_name("cumulet")
        .statement_cache_capacity(PREPARED)
        .options([
            ("lock_timeout", locks.as_str()),
            ("idle_in_transaction_session_timeout", idle.as_str()),
        ]);
    settings
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
pub(super) async fn query(conn: &mut PgConnection, statement: &Statement) -> Result<Vec<ProxyRow>, Failure> {
    let query = sqlx::query_with(AssertSqlSafe(statement.sql.clone()), arguments(statement)?);
    let rows = query.fetch_all(conn).await?;
    rows.iter().map(row).collect()
}

/// Runs a statement; how many rows it has matched.
pub(super) async fn execute(conn: &mut PgConnection, statement: &Statement) -> Result<u64, Failure> {
    let query = sqlx::query_with(AssertSqlSafe(statement.sql.clone()), arguments(statement)?);
    Ok(query.execute(conn).await?.rows_affected())
}

/// Runs statements without values; the first column of the last row, which is to be a text.
pub(super) async fn simple(conn: &mut PgConnection, sql: String) -> Result<Option<String>, Failure> {
    let rows = conn.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    Ok(match rows.last() {
        Some(row) if !row.columns().is_empty() => row.try_get_unchecked(0)?,
        _ => None,
    })
}

fn arguments(statement: &Statement) -> Result<PgArguments, Failure> {
    let mut arguments = PgArguments::default();
    for value in plain(statement) {
        let added = match value? {
            Plain::Number(n) => arguments.add(n),
            Plain::Flag(b) => arguments.add(b),
            Plain::Text(text) => arguments.add(text),
        };
        added.map_err(|error| Failure::kind(error.to_string()))?;
    }
    Ok(arguments)
}

fn row(row: &PgRow) -> Result<ProxyRow, Failure> {
    let mut values = BTreeMap::new();
    for (i, column) in row.columns().iter().enumerate() {
        let found = value(row.try_get_raw(i)?).map_err(|error| Failure::kind(error.to_string()))?;
        values.insert(column.name().to_owned(), found);
    }
    Ok(ProxyRow::new(values))
}

fn value(value: PgValueRef<'_>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    if value.is_null() {
        return Ok(Value::BigInt(None));
    }
    let kind = value.type_info();
    Ok(match kind.name() {
        "INT8" => Value::BigInt(Some(<i64 as Decode<Postgres>>::decode(value)?)),
        "INT4" => Value::BigInt(Some(<i32 as Decode<Postgres>>::decode(value)?.into())),
        "INT2" => Value::BigInt(Some(<i16 as Decode<Postgres>>::decode(value)?.into())),
        "BOOL" => Value::BigInt(Some(<bool as Decode<Postgres>>::decode(value)?.into())),
        "NUMERIC" => Value::BigInt(Some(numeric(value.as_bytes()?)?)),
        "TEXT" | "VARCHAR" | "CHAR" | "BPCHAR" | "NAME" | "unknown" => {
            Value::String(Some(<String as Decode<Postgres>>::decode(value)?))
        }
        other => return Err(format!("a column of type {other}").into()),
    })
}

/// A whole number in NUMERIC's binary form, which sums of BIGINT have: digits to the base of 10,000.
fn numeric(bytes: &[u8]) -> Result<i64, &'static str> {
    const WRONG: &str = "a number that is not whole, or too large";
    let word = |at: usize| -> Result<i64, &'static str> {
        let pair = bytes
            .get(at * 2..at * 2 + 2)
            .and_then(|pair| pair.try_into().ok());
        Ok(i16::from_be_bytes(pair.ok_or(WRONG)?).into())
    };
    let (count, weight, sign) = (word(0)?, word(1)?, word(2)?);
    if !(0..=5).contains(&count) || !(-1..=4).contains(&weight) && count > 0 || count > weight + 1 {
        return Err(WRONG);
    }
    let mut number: i64 = 0;
    // Digits that are zero at the end are left out.
    for place in 0..if count == 0 { 0 } else { weight + 1 } {
        let digit = match usize::try_from(place) {
            Ok(at) if place < count => word(4 + at)?,
            _ => 0,
        };
        let shifted = number.checked_mul(10_000).and_then(|n| n.checked_sub(digit));
        number = shifted.ok_or(WRONG)?;
    }
    match sign {
        0 => number.checked_neg().ok_or(WRONG),
        0x4000 => Ok(number),
        _ => Err(WRONG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(weight: i16, sign: i16, digits: &[i16]) -> Vec<u8> {
        let head = [i16::try_from(digits.len()).unwrap(), weight, sign, 0];
        head.iter()
            .chain(digits)
            .flat_map(|word| word.to_be_bytes())
            .collect()
    }

    #[test]
    fn sums_are_whole_numbers() {
        for (bytes, number) in [
            (binary(0, 0, &[]), 0),
            (binary(0, 0, &[7]), 7),
            (binary(1, 0, &[1]), 10_000),
            (binary(1, 0x4000, &[12, 3456]), -123_456),
            (binary(4, 0, &[922, 3372, 368, 5477, 5807]), i64::MAX),
            (binary(4, 0x4000, &[922, 3372, 368, 5477, 5808]), i64::MIN),
        ] {
            assert_eq!(numeric(&bytes), Ok(number));
        }
        for bytes in [
            binary(-1, 0, &[5000]),
            binary(0, 0, &[1, 5000]),
            binary(4, 0, &[922, 3372, 368, 5477, 5808]),
            binary(0, -16384, &[]),
            vec![0; 3],
        ] {
            assert!(numeric(&bytes).is_err(), "{bytes:?}");
        }
    }
}

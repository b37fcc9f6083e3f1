//! Row locks: what keeps a transaction right on a server that reads and then writes by what it has read.
//!
//! On SQLite there is one transaction at a time, and nothing to do: no statement is sent there for these,
//! or one without its lock. On the servers two transactions interleave at READ COMMITTED, where each statement
//! sees what was committed before it began. What was read may then be over when it is written by, unless one
//! of these holds:
//!
//! - The write is **one conditional update** (or delete) of the row that the condition is about, and its row
//!   count is looked at. Conditions on *other* rows (`NOT EXISTS …`) don't count: PostgreSQL judges them by
//!   the rows as they were before the statement had to wait.
//! - A **unique key** decides; the loser is told, or runs again and finds the other's row.
//! - The **row that both go through is locked before the read**, by an update of it or by `FOR UPDATE`.
//!   What hangs on a parent is looked at under the parent's lock: all about security groups, their rules and
//!   members under the VPC's; tags under their resource's; an instance's operation, interfaces and pushes
//!   of metadata under the instance's; members of a placement group under the group's.
//!
//! Locks are taken in this order, so that two transactions never wait for each other. (Where they do all the
//! same, the server ends one of them, which is run again and counted.)
//!
//! 1. instances, by their ids; their operations, what those hold, and reservations
//! 2. hosts; aggregates
//! 3. placement groups, their hosts; images
//! 4. accounts
//! 5. interfaces and their addresses; volumes, each with its attachment (which hangs on its instance too), its
//!    operation and what that holds; snapshots
//! 6. VPCs
//! 7. all that has no parent's lock to itself: hosts' networks, security groups, rules, members, tags,
//!    client tokens, settings, the audit log
//!
//! Only CreateTags and DeleteTags, which lock resources of any kind in the order of their ids, may cross it.

use cumulet_domain::Result;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    Select,
};

use super::{batch::chunks, column, failed};

/// Whether others write at the same time.
pub fn needed(conn: &impl ConnectionTrait) -> bool {
    conn.get_database_backend() != DbBackend::Sqlite
}

/// Keeps others from changing the rows of a table with these ids until the transaction ends; whatever else it
/// changes comes after them.
///
/// # Errors
/// Those of the database.
pub async fn rows<E: EntityTrait>(txn: &impl ConnectionTrait, id: E::Column, ids: &[i64]) -> Result<()> {
    if !needed(txn) {
        return Ok(());
    }
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    for chunk in chunks(&ids) {
        which::<E>(txn, id, E::find().filter(id.is_in(chunk))).await?;
    }
    Ok(())
}

/// In one order, so that two of these never wait for each other.
async fn which<E: EntityTrait>(txn: &impl ConnectionTrait, id: E::Column, some: Select<E>) -> Result<()> {
    let lock = some.select_only().column(id).order_by_asc(id).lock_exclusive();
    column::<_, i64>(lock, txn).await.map(drop)
}

/// The row that a query selects by its key, which nobody deletes until the transaction ends. Any number of
/// transactions may have it so at once. (As a foreign key does it; sea-query's form is not MariaDB's.)
///
/// # Errors
/// Those of the database.
pub async fn shared<E: EntityTrait>(
    txn: &impl ConnectionTrait,
    query: Select<E>,
) -> Result<Option<E::Model>> {
    let backend = txn.get_database_backend();
    let mut statement = query.build(backend);
    statement.sql.push_str(match backend {
        DbBackend::Postgres => " FOR KEY SHARE",
        DbBackend::MySql => " LOCK IN SHARE MODE",
        _ => "",
    });
    E::find().from_raw_sql(statement).one(txn).await.map_err(failed)
}

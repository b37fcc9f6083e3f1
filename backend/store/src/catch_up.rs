//! The writing of what an earlier program does not write, while one runs beside this: the volumes and addresses of
//! what it has launched, and the end of those of what it has ended. Readers go by its own columns until then.

use cumulet_domain::Result;
use cumulet_migrations::rows_of_earlier;

use super::{Invalidates, Store, failed, lock};
use crate::boxed;

/// Looks, and writes what is missing; whether anything was. A file has one program at a time, whose migrations have
/// done it; so this is for the servers.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn run(store: &Store) -> Result<bool> {
    if !lock::needed(store.read()) {
        return Ok(false);
    }
    write_missing(store).await
}

/// The same on any database.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn write_missing(store: &Store) -> Result<bool> {
    // A read first, so that nobody waits for a transaction that has nothing to do.
    if !rows_of_earlier::are_missing(store.read()).await.map_err(failed)? {
        return Ok(false);
    }
    let write = store.write_with(Invalidates::Everything, |txn| {
        Box::pin(async move { rows_of_earlier::write(txn).await.map_err(failed) })
    });
    write.await.map(|()| true)
}

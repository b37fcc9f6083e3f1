//! The writing of what an earlier program does not write, while one runs beside this: the volumes and addresses of
//! what it has launched, and the end of those of what it has ended, where readers go by its own columns until then; and
//! the end of the waiting of copies of volumes for snapshots that it has taken; and that roots are there which are to
//! outlive instances that it has launched.

use cumulet_domain::{Result, snapshot::SnapshotState, time::Timestamp};
use cumulet_migrations::rows_of_earlier;

use super::{Invalidates, Store, attachments, failed, lock, volume_copies};
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
    let settled = settle_copies(store).await? | note_roots(store).await?;
    if !rows_of_earlier::are_missing(store.read()).await.map_err(failed)? {
        return Ok(settled);
    }
    let write = store.write_with(Invalidates::Everything, |txn| {
        Box::pin(async move { rows_of_earlier::write(txn).await.map_err(failed) })
    });
    write.await.map(|()| true)
}

/// Notes of roots that are to be kept that there is something to keep; whether there were any.
async fn note_roots(store: &Store) -> Result<bool> {
    let seen = attachments::roots_to_note(store.read()).await?;
    if seen.is_empty() {
        return Ok(false);
    }
    let write = store.write(move |txn| {
        let seen = seen.clone();
        Box::pin(async move {
            // Of one that is about to end it is settled already what its host is told.
            for row in &seen {
                attachments::lock_with_instance(txn, row.id.to_db()).await?;
            }
            for row in attachments::roots_to_note(txn).await? {
                attachments::made(txn, row.id.to_db(), Timestamp(row.created_at)).await?;
            }
            Ok(())
        })
    });
    write.await.map(|()| true)
}

/// Ends the waiting of copies whose snapshots nobody takes any more; whether there were any.
async fn settle_copies(store: &Store) -> Result<bool> {
    let over = volume_copies::forgotten(store.read()).await?;
    if over.is_empty() {
        return Ok(false);
    }
    let write = store.write(move |txn| {
        Box::pin(async move {
            for row in &over {
                let failure = match row.state.0 {
                    SnapshotState::Completed => None,
                    _ => Some(row.state_message.as_deref().unwrap_or_default()),
                };
                volume_copies::settle(txn, &[row.id.to_db()], failure).await?;
            }
            Ok(())
        })
    });
    write.await.map(|()| true)
}

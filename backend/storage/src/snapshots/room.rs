//! The room of snapshots that were deleted: the store of snapshots is swept by what the database needs of it.

use std::{
    io,
    time::{Duration, SystemTime},
};

use cumulet_domain::time::Timestamp;
use cumulet_snapshots::{Digest, SnapshotStore, Swept, Wanted};
use cumulet_store::{Store, snapshots};

use crate::boxed;

/// So much may clocks of hosts and file systems differ from one another.
const MARGIN: Duration = Duration::from_secs(600);

/// Removes what no snapshot needs, and no volume that is yet to be made of one.
///
/// # Errors
/// Those of the file system and of the database.
#[boxed]
pub async fn sweep(store: &Store, files: &SnapshotStore, now: Timestamp) -> io::Result<Swept> {
    let (store, files) = (store.clone(), files.clone());
    let database = tokio::runtime::Handle::current();
    let work = move || {
        files.sweep(|| {
            let needed = database.block_on(snapshots::needed(store.read()));
            let needed = needed.map_err(io::Error::other)?;
            let digest = |name: &String| {
                let none = || io::Error::other(format!("{name:?} is no manifest's name"));
                Digest::parse(name).ok_or_else(none)
            };
            Ok(Wanted {
                manifests: needed.manifests.iter().map(digest).collect::<io::Result<_>>()?,
                since: Some(horizon(needed.pending_since, now)),
            })
        })
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

/// What is younger is left alone: it may be of a snapshot that is being taken.
fn horizon(pending_since: Option<Timestamp>, now: Timestamp) -> SystemTime {
    let oldest = pending_since.unwrap_or(now).min(now);
    let since = Duration::from_millis(oldest.0.unsigned_abs());
    SystemTime::UNIX_EPOCH + since.saturating_sub(MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_younger_than_the_oldest_that_is_being_taken_stays() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (pending, expected) in [
            (None, 9_400),
            (Some(8_000), 7_400),
            (Some(20_000), 9_400),
            (Some(1), 0),
        ] {
            let pending = pending.map(|seconds| Timestamp(seconds * 1000));
            assert_eq!(
                horizon(pending, Timestamp(10_000_000)),
                at(expected),
                "{pending:?}"
            );
        }
    }
}

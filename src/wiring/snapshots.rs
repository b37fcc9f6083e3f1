//! The room of deleted snapshots, given back by the process that drives operations.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use cumulet_backend::{
    api::snapshots::{self, SnapshotStore, Swept},
    store::Store,
};
use cumulet_domain::time::Clock;
use tokio::sync::watch;

use crate::state::StateDir;

/// How often it is looked for what nobody needs.
const INTERVAL: Duration = Duration::from_secs(300);

/// Sweeps the store of snapshots again and again, until `shutdown` says so.
pub(super) fn sweep(
    state: &StateDir,
    store: Store,
    clock: Arc<dyn Clock>,
    mut shutdown: watch::Receiver<bool>,
) -> impl Future<Output = Result<()>> + Send + use<> {
    let dir = state.snapshots();
    async move {
        let files = SnapshotStore::at(&dir);
        let mut timer = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            }
            // It is made with the first snapshot.
            if !dir.exists() {
                continue;
            }
            match snapshots::sweep(&store, &files, clock.now()).await {
                Ok(swept) if swept == Swept::default() => {}
                Ok(swept) => tracing::info!(?swept, "gave back the room of deleted snapshots"),
                Err(error) => tracing::warn!(%error, "the room of deleted snapshots can't be given back"),
            }
        }
    }
}

//! Snapshots that are deleted while they are taken, with hosts that the test plays: nobody sees them, nothing is taken over
//! them, and what they have brought goes when their hosts are done.

use std::time::Duration;

use cumulet_domain::{
    Error, Result,
    id::SnapshotId,
    snapshot::SnapshotState,
    time::{Clock as _, SystemClock},
};
use cumulet_store::snapshots as store;

use super::{Instances, snapshots::taken};
use crate::api::{
    PageRequest,
    snapshots::{self as api, SnapshotQuery, SnapshotView},
};

impl Instances {
    async fn delete_snapshot(&self, id: SnapshotId) -> Result<()> {
        api::delete(&self.rig.cloud, &self.rig.who, id).await
    }

    /// Nobody sees it.
    async fn is_out_of_sight(&self, id: SnapshotId) {
        let again = self.delete_snapshot(id).await;
        assert!(matches!(again, Err(Error::NotFound { .. })), "{again:?}");
        let (cloud, who) = (&self.rig.cloud, &self.rig.who);
        let seen = api::describe(cloud, who, &SnapshotQuery::default(), PageRequest::default()).await;
        let seen: Vec<SnapshotId> = seen.unwrap().rows.iter().map(SnapshotView::id).collect();
        assert!(!seen.contains(&id), "{seen:?}");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_deleted_while_it_is_taken_ends_when_its_host_is_done() {
    for (told, fails) in [(false, false), (true, false), (true, true)] {
        let mut on = Instances::new().await;
        let (volume, _) = on.attached().await;
        let (id, open) = on.snapshot(volume).await;
        if told {
            on.round().await;
            assert!(on.told_to_take().await.is_some());
        }
        on.delete_snapshot(id).await.unwrap();
        on.is_out_of_sight(id).await;
        assert_eq!(on.kept(id).await.state.0, SnapshotState::Pending);
        assert!(on.taking(id).await.is_some(), "its host is at it, or will be");
        on.round().await;
        assert_eq!(on.told_to_take().await.is_some(), !told);

        let host = on.kept(id).await.host.unwrap_or_else(|| "host-1".into());
        let (found, failure, state) = match fails {
            false => (taken([id]), None, SnapshotState::Completed),
            true => (
                Vec::new(),
                Some(("the volume is gone", true)),
                SnapshotState::Error,
            ),
        };
        on.taken(&host, &open, found, failure).await;
        on.is_out_of_sight(id).await;
        assert_eq!(on.kept(id).await.state.0, state);
        assert!(on.taking(id).await.is_none());
        let needed = store::needed(on.conductor.store.read()).await.unwrap();
        assert_eq!(needed, store::Needed::default(), "{told} {fails}");

        // Nothing is taken over it, and its row goes when it has had its time.
        on.snapshot(volume).await;
        on.round().await;
        assert_eq!(on.told_to_take().await.unwrap()[0].base, None, "{told} {fails}");
        let later = SystemClock.now().after(Duration::from_secs(365 * 24 * 3600));
        let write = on.conductor.store.clone();
        let forget = write.write(move |txn| Box::pin(async move { store::forget(txn, later, 100).await }));
        assert_eq!(forget.await.unwrap(), 1, "{told} {fails}");
    }
}

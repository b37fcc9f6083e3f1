//! Instances that were asked for by id lately. Clients wait for instances by asking for the same few again
//! and again, and most of what an answer costs is the way to the database and back. What is kept is good
//! until the next commit, whatever that changes, so an answer from here is the one that a read would give.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{account::AccountId, id::InstanceId, time::Timestamp};

use super::InstanceView;
use crate::store::instances::has_vanished;

/// Instances at the most, some 2 KiB each.
const KEPT: usize = 2048;

/// Requests that name more instances go to the database.
const NAMED: usize = 64;

/// See the module. Cheap to clone; clones share what is kept.
#[derive(Clone, Default)]
pub struct InstanceCache(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// The store's count of commits from before the views were read.
    commits: u64,
    views: HashMap<i64, Arc<InstanceView>>,
}

impl InstanceCache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The named instances, if all of them are kept, are the account's and can still be seen.
    pub(super) fn get(
        &self,
        commits: u64,
        account: AccountId,
        ids: &[InstanceId],
        now: Timestamp,
    ) -> Option<Vec<InstanceView>> {
        if ids.len() > NAMED {
            return None;
        }
        let kept = self.kept();
        if kept.commits != commits {
            return None;
        }
        let found: Option<Vec<Arc<InstanceView>>> = ids
            .iter()
            .map(|id| kept.views.get(&id.to_db()).cloned())
            .collect();
        drop(kept);
        let usable =
            |view: &Arc<InstanceView>| view.row.account == account.to_db() && !has_vanished(&view.row, now);
        let found = found.filter(|views| views.iter().all(usable))?;
        Some(found.into_iter().map(|view| (*view).clone()).collect())
    }

    /// Keeps views that were read when `commits` had been counted.
    pub(super) fn put(&self, commits: u64, views: &[InstanceView]) {
        if views.len() > NAMED {
            return;
        }
        let mut kept = self.kept();
        if kept.commits > commits {
            return;
        }
        if kept.commits < commits || kept.views.len() + views.len() > KEPT {
            kept.views.clear();
            kept.commits = commits;
        }
        let views = views.iter().map(|view| (view.row.id, Arc::new(view.clone())));
        kept.views.extend(views);
    }
}

impl fmt::Debug for InstanceCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceCache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::instance::State;

    use crate::{
        api::{
            PageRequest,
            instances::{InstanceQuery, describe, launch},
        },
        test_support::cloud,
    };

    #[tokio::test]
    async fn what_is_kept_is_shown_until_something_is_committed_and_to_its_account_alone() {
        let rig = cloud().await;
        let made = launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
        let id = made.instances[0].id();
        let query = InstanceQuery {
            ids: vec![id, id],
            ..InstanceQuery::default()
        };
        let state = async || {
            let page = describe(&rig.cloud, &rig.who, &query, PageRequest::default()).await;
            let rows = page.unwrap().rows;
            assert_eq!(rows.len(), 1, "named twice, shown once");
            rows[0].state()
        };
        let kept = || {
            let commits = rig.cloud.store.commits();
            let found = rig
                .cloud
                .instances
                .get(commits, rig.who.account, &[id], rig.cloud.now());
            found.map(|views| views[0].state())
        };
        assert_eq!(kept(), None);
        assert_eq!(state().await, State::Pending);
        assert_eq!(kept(), Some(State::Pending));
        assert_eq!(state().await, State::Pending);

        let commits = rig.cloud.store.commits();
        let other = cumulet_domain::account::AccountId(rig.who.account.0 + 1);
        assert!(
            rig.cloud
                .instances
                .get(commits, other, &[id], rig.cloud.now())
                .is_none()
        );

        rig.settle(id, State::Running).await;
        assert_eq!(kept(), None);
        assert_eq!(state().await, State::Running);
        assert_eq!(kept(), Some(State::Running));
    }
}

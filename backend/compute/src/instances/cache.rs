//! The cache of instance views, for clients that poll. What is kept of an account is valid until a commit
//! that may have changed something of it, so an answer from here is the one that a read would give. What time
//! alone changes (ended instances go out of sight) is looked at when it is taken out.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{account::AccountId, id::InstanceId};
use cumulet_store::authority::Visibility;

use crate::instances::InstanceView;

/// Bytes kept at the most, roughly: some 10,000 instances.
const BYTES: usize = 16 << 20;

/// What a view takes without its longer texts and tags.
const VIEW: usize = 1280;

/// See the module. Cheap to clone; clones share what is kept.
#[derive(Clone)]
pub struct InstanceCache {
    kept: Arc<Mutex<Kept>>,
    /// Bytes that it keeps at the most.
    most: usize,
}

#[derive(Default)]
struct Kept {
    accounts: HashMap<AccountId, Shelf>,
    bytes: usize,
}

/// What is kept of one account.
#[derive(Default)]
struct Shelf {
    /// The account's version in the store from before all of it was read.
    version: u64,
    views: HashMap<i64, Arc<InstanceView>>,
    /// Every instance that could be seen, if all were read at once.
    all: Option<Arc<[Arc<InstanceView>]>>,
    bytes: usize,
}

impl Default for InstanceCache {
    fn default() -> Self {
        InstanceCache {
            kept: Arc::default(),
            most: BYTES,
        }
    }
}

impl InstanceCache {
    /// One that keeps so many instances at the most.
    pub fn with_room(instances: usize) -> Self {
        InstanceCache {
            most: instances.saturating_mul(VIEW),
            ..InstanceCache::default()
        }
    }

    /// How many instances can be kept at the most: what are more is not worth being read at once.
    pub fn room(&self) -> usize {
        self.most / VIEW
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The named instances, if all of them are kept and can still be seen.
    pub fn named(
        &self,
        visibility: Visibility,
        version: u64,
        ids: &[InstanceId],
    ) -> Option<Vec<Arc<InstanceView>>> {
        let kept = self.kept();
        let shelf = kept
            .accounts
            .get(&visibility.account)
            .filter(|s| s.version == version)?;
        let find = |id: &InstanceId| {
            let view = shelf.views.get(&id.to_db());
            view.filter(|view| !visibility.has_lost(view.row.terminated_at))
                .cloned()
        };
        ids.iter().map(find).collect()
    }

    /// All of the account's instances, those that have gone out of sight since among them.
    pub fn all(&self, account: AccountId, version: u64) -> Option<Arc<[Arc<InstanceView>]>> {
        let kept = self.kept();
        let shelf = kept.accounts.get(&account).filter(|s| s.version == version)?;
        shelf.all.clone()
    }

    /// Keeps views that were read after the account had had this version.
    pub fn put(&self, account: AccountId, version: u64, views: &[Arc<InstanceView>]) {
        self.keep(account, version, views, None);
    }

    /// Keeps all instances that the account can see.
    pub fn put_all(&self, account: AccountId, version: u64, views: &[Arc<InstanceView>]) {
        self.keep(account, version, views, Some(views.into()));
    }

    /// How much is kept.
    pub fn bytes(&self) -> usize {
        self.kept().bytes
    }

    fn keep(
        &self,
        account: AccountId,
        version: u64,
        views: &[Arc<InstanceView>],
        all: Option<Arc<[Arc<InstanceView>]>>,
    ) {
        let bytes: usize = views.iter().map(|view| weight(view)).sum();
        let mut kept = self.kept();
        match kept.accounts.get(&account).map(|shelf| shelf.version) {
            // Another call has read since what this reader may not have seen.
            Some(newer) if newer > version => return,
            Some(same) if same == version => {}
            _ => kept.drop_shelf(account),
        }
        if kept.bytes + bytes > self.most {
            *kept = Kept::default();
        }
        if bytes > self.most {
            return;
        }
        kept.bytes += bytes;
        let shelf = kept.accounts.entry(account).or_default();
        shelf.version = version;
        // Counted again where one was there, which errs to the safe side.
        shelf.bytes += bytes;
        shelf
            .views
            .extend(views.iter().map(|view| (view.row.id.to_db(), view.clone())));
        shelf.all = all.or_else(|| shelf.all.take());
    }
}

impl Kept {
    fn drop_shelf(&mut self, account: AccountId) {
        if let Some(shelf) = self.accounts.remove(&account) {
            self.bytes -= shelf.bytes;
        }
    }
}

/// About how many bytes a view takes.
fn weight(view: &InstanceView) -> usize {
    let row = &view.row;
    let texts = [&row.public_key, &row.reason_message];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let data = [&row.sealed_user_data, &row.user_data];
    let data: usize = data.into_iter().flatten().map(|text| text.expose().len()).sum();
    let tags: usize = view.tags.iter().map(|t| 96 + t.key.len() + t.value.len()).sum();
    let disks: usize = view.disks.iter().map(|disk| 96 + disk.device.len()).sum();
    VIEW + texts + data + tags + disks
}

impl fmt::Debug for InstanceCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceCache").finish_non_exhaustive()
    }
}

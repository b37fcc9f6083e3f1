//! The quota of an account's tags altogether: a fence against filling the database, with some slack. Counting
//! them takes long where there are many, so each process keeps a number that they are no more than, and
//! counts only when that number reaches the quota, or others may have added to it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{Error, Result, account::AccountId, error::Limit, time::Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait as _, QueryFilter};

use crate::{
    api::Cloud,
    entity::tag,
    store::{failed, lock},
};

/// Tags of an account at the most: 50 of 5,000 resources.
pub const MAX_ACCOUNT_TAGS: u64 = if cfg!(test) { 600 } else { 250_000 };

/// Milliseconds that a number is good where other processes write, and that a refusal stands uncounted.
const GOOD: i64 = 10_000;

/// See the module. Clones share the numbers.
#[derive(Clone, Default)]
pub struct TagRoom(Arc<Mutex<HashMap<AccountId, Known>>>);

#[derive(Clone, Copy)]
struct Known {
    /// There are no more than these.
    most: u64,
    counted: Timestamp,
}

impl TagRoom {
    fn known(&self) -> MutexGuard<'_, HashMap<AccountId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tags of the account were removed: it is worth counting them.
    pub(in crate::api) fn removed(&self, account: AccountId) {
        self.known().remove(&account);
    }

    /// What need not be counted: whether so many more fit.
    fn fits(&self, account: AccountId, more: u64, now: Timestamp, alone: bool) -> Option<bool> {
        let mut known = self.known();
        let known = known.get_mut(&account)?;
        let fresh = now.0 - known.counted.0 < GOOD;
        let fits = known.most + more <= MAX_ACCOUNT_TAGS;
        match fits {
            true if alone || fresh => {
                known.most += more;
                Some(true)
            }
            false if fresh => Some(false),
            _ => None,
        }
    }
}

impl fmt::Debug for TagRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagRoom")
    }
}

/// Whether an account may have so many more tags.
///
/// # Errors
/// `LimitExceeded`.
pub(in crate::api) async fn check(cloud: &Cloud, account: AccountId, more: usize) -> Result<()> {
    if more == 0 {
        return Ok(());
    }
    let (more, now) = (more as u64, cloud.now());
    let conn = cloud.store.read();
    let fits = match cloud.kept.tag_room.fits(account, more, now, !lock::needed(conn)) {
        Some(fits) => fits,
        None => {
            let all = tag::Entity::find().filter(tag::Column::Account.eq(account.to_db()));
            let count = all.count(conn).await.map_err(failed)?;
            let fits = count + more <= MAX_ACCOUNT_TAGS;
            let most = if fits { count + more } else { count };
            let counted = now;
            cloud
                .kept
                .tag_room
                .known()
                .insert(account, Known { most, counted });
            fits
        }
    };
    let (limit, max) = (Limit::Tags, MAX_ACCOUNT_TAGS);
    fits.then_some(()).ok_or(Error::LimitExceeded { limit, max })
}

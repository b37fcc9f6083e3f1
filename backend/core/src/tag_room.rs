//! The quota of an account's tags altogether: a fence against filling the database. Counting them takes long
//! where there are many, so each process keeps a number that they are no more than; where that number and what is
//! written come to more than the quota, the transaction that has written it counts.
//!
//! With SQLite, whose transactions come one after the other in one process, the quota is exact. On a server other
//! processes write too, and a number is good for some seconds: within them each process may add what its own
//! number leaves room for. To be exact there each change of a tag would count all of the account's, or
//! wait for the others at a counter of the account's.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{Error, Result, account::AccountId, error::Limit, time::Timestamp};
use cumulet_store::{entity::tag, failed, lock};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait as _, QueryFilter};

use crate::RequestContext;

/// Milliseconds that a number is good where other processes write.
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
}

impl fmt::Debug for TagRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagRoom")
    }
}

/// The room for the tags of one change.
#[derive(Clone)]
pub struct Room {
    of: TagRoom,
    account: AccountId,
    more: u64,
    max: u64,
    now: Timestamp,
}

/// The room for so many more tags at the most: those that only get another value need none.
pub fn room(cx: &RequestContext, account: AccountId, more: usize) -> Room {
    Room {
        of: cx.tag_room().clone(),
        account,
        more: more as u64,
        max: cx.config.quotas.tags,
        now: cx.now(),
    }
}

impl Room {
    /// Whether the account's tags are not too many, now that the transaction has written them.
    ///
    /// # Errors
    /// `LimitExceeded`.
    pub async fn check(&self, txn: &impl ConnectionTrait) -> Result<()> {
        if self.more == 0 || self.fits(!lock::needed(txn)) {
            return Ok(());
        }
        let all = tag::Entity::find().filter(tag::Column::Account.eq(self.account.to_db()));
        let most = all.count(txn).await.map_err(failed)?;
        let counted = self.now;
        self.of.known().insert(self.account, Known { most, counted });
        let (limit, max) = (Limit::Tags, self.max);
        (most <= max)
            .then_some(())
            .ok_or(Error::LimitExceeded { limit, max })
    }

    /// Whether they fit by the number that is known. They are added to it whether they will be kept or not:
    /// there are no more than that.
    fn fits(&self, alone: bool) -> bool {
        let mut known = self.of.known();
        let Some(known) = known.get_mut(&self.account) else {
            return false;
        };
        let good = alone || self.now.0 - known.counted.0 < GOOD;
        let fits = good && known.most + self.more <= self.max;
        if fits {
            known.most += self.more;
        }
        fits
    }
}

//! The credential cache: the principal of an access key, looked up for every request and so kept in memory. A
//! change made by this process empties it at once; one made by another process (an operator's command)
//! changes a mark in the database, which is looked at every second.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cumulet_certs::{AccessKeyKind, SecretString};
use cumulet_domain::{Result, account::Principal, time::Timestamp};
use cumulet_store::{
    entity::{access_key, user},
    rows, settings,
};
use sea_orm::{ConnectionTrait, EntityTrait};

use crate::{
    accounts::{RequestContext, keys::open},
    boxed,
};

/// Credentials kept at the most.
const CAPACITY: usize = 10_000;

/// How long a change by another process may go unnoticed.
const RECHECK: Duration = Duration::from_secs(1);

/// An access key that may sign: for whom, and with which secret.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Who signs with it.
    pub principal: Arc<Principal>,
    /// What they sign with.
    pub secret: Arc<SecretString>,
}

/// Credentials that were looked up lately. Cheap to clone.
#[derive(Clone, Default)]
pub struct CredentialCache(Arc<Mutex<Cached>>);

#[derive(Default)]
struct Cached {
    known: HashMap<String, Arc<Credential>>,
    /// Grows when the cache is emptied: what was read from the database before that is not kept.
    epoch: u64,
    mark: Option<String>,
    checked: Timestamp,
}

impl CredentialCache {
    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut cached = self.lock();
        cached.known.clear();
        cached.epoch += 1;
    }

    /// Forgets everything if another process has changed something.
    async fn refresh(&self, conn: &impl ConnectionTrait, now: Timestamp) -> Result<()> {
        // The turn is taken before the look, so that one request looks and the others go on.
        let due = {
            let mut cached = self.lock();
            let due = now.since(cached.checked) >= RECHECK || now < cached.checked;
            if due {
                cached.checked = now;
            }
            due
        };
        if due {
            let mark = settings::get(conn, settings::CREDENTIALS).await?;
            let changed = {
                let mut cached = self.lock();
                std::mem::replace(&mut cached.mark, mark.clone()) != mark
            };
            if changed {
                self.clear();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialCache").finish_non_exhaustive()
    }
}

/// The credential of an access key; `None` when it is unknown, disabled, or its user is.
///
/// # Errors
/// Those of the database; `Internal` when the secret can't be opened.
#[boxed]
pub async fn credential(
    cx: &RequestContext,
    cache: &CredentialCache,
    access_key_id: &str,
) -> Result<Option<Arc<Credential>>> {
    if AccessKeyKind::of(access_key_id) != Some(AccessKeyKind::LongTerm) {
        return Ok(None);
    }
    cache.refresh(cx.store.read(), cx.now()).await?;
    let epoch = {
        let cached = cache.lock();
        if let Some(known) = cached.known.get(access_key_id) {
            return Ok(Some(known.clone()));
        }
        cached.epoch
    };
    let Some(found) = load(cx, access_key_id).await? else {
        return Ok(None);
    };
    let found = Arc::new(found);
    let mut cached = cache.lock();
    if cached.epoch == epoch {
        if cached.known.len() >= CAPACITY {
            cached.known.clear();
        }
        cached.known.insert(access_key_id.to_owned(), found.clone());
    }
    Ok(Some(found))
}

async fn load(cx: &RequestContext, access_key_id: &str) -> Result<Option<Credential>> {
    let conn = cx.store.read();
    let key = rows::one(access_key::Entity::find_by_id(access_key_id), conn).await?;
    let Some(key) = key.filter(|key| key.enabled.0) else {
        return Ok(None);
    };
    let user = rows::one(user::Entity::find_by_id(&key.user_id), conn).await?;
    let Some(user) = user.filter(|user| user.enabled.0 && user.account == key.account) else {
        return Ok(None);
    };
    let secret = open(&cx.sealer, &key)?;
    let principal = Principal {
        account: key.account.0,
        role: user.role.0,
        user_id: user.id,
        user_name: user.name,
        access_key_id: key.id,
    };
    Ok(Some(Credential {
        principal: Arc::new(principal),
        secret: Arc::new(secret),
    }))
}

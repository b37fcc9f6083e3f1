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
use cumulet_domain::{
    Result,
    account::{AccountId, Principal},
    time::Timestamp,
};
use sea_orm::{ConnectionTrait, EntityTrait};

use super::{Cloud, keys::open, role_of};
use crate::{
    boxed,
    entity::{access_key, user},
    store::{failed, settings},
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
pub async fn credential(cloud: &Cloud, access_key_id: &str) -> Result<Option<Arc<Credential>>> {
    if AccessKeyKind::of(access_key_id) != Some(AccessKeyKind::LongTerm) {
        return Ok(None);
    }
    let cache = &cloud.credentials;
    cache.refresh(cloud.store.read(), cloud.now()).await?;
    let epoch = {
        let cached = cache.lock();
        if let Some(known) = cached.known.get(access_key_id) {
            return Ok(Some(known.clone()));
        }
        cached.epoch
    };
    let Some(found) = load(cloud, access_key_id).await? else {
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

async fn load(cloud: &Cloud, access_key_id: &str) -> Result<Option<Credential>> {
    let conn = cloud.store.read();
    let key = access_key::Entity::find_by_id(access_key_id)
        .one(conn)
        .await
        .map_err(failed)?;
    let Some(key) = key.filter(|key| key.enabled != 0) else {
        return Ok(None);
    };
    let user = user::Entity::find_by_id(&key.user_id)
        .one(conn)
        .await
        .map_err(failed)?;
    let Some(user) = user.filter(|user| user.enabled != 0 && user.account == key.account) else {
        return Ok(None);
    };
    let secret = open(&cloud.sealer, &key)?;
    let principal = Principal {
        account: AccountId::from_db(key.account),
        role: role_of(&user.role),
        user_id: user.id,
        user_name: user.name,
        access_key_id: key.id,
    };
    Ok(Some(Credential {
        principal: Arc::new(principal),
        secret: Arc::new(secret),
    }))
}

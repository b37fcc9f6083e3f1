//! A bounded cache of derived SigV4 signing keys.
//!
//! Deriving one takes four HMACs, about as long as the rest of a verification. The cache is a fixed
//! array in which every key has one place: it never grows and nothing has to be evicted. Only
//! requests that verified put keys into it, so strangers can't push others out.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use cumulet_certs::SecretString;

use super::claim::Scope;
use super::sigv4::SigningKey;

pub(super) struct KeyCache {
    places: Box<[Mutex<Option<Entry>>]>,
    /// Keyed with random numbers: nobody can choose names that fall on another one's place.
    hasher: RandomState,
}

struct Entry {
    access_key_id: String,
    line: String,
    /// What the key was derived from: should an id get another secret, the entry is void.
    secret: SecretString,
    key: SigningKey,
}

impl KeyCache {
    pub(super) fn new(places: usize) -> Self {
        let places = (0..places.max(1)).map(|_| Mutex::new(None)).collect();
        Self {
            places,
            hasher: RandomState::new(),
        }
    }

    /// The signing key of this scope, if it is here and was made from this secret.
    pub(super) fn get(&self, scope: &Scope<'_>, secret: &SecretString) -> Option<SigningKey> {
        let place = self.place(scope).lock().unwrap_or_else(PoisonError::into_inner);
        let entry = place.as_ref()?;
        let same = entry.access_key_id == scope.access_key_id
            && entry.line == scope.line
            && entry.secret.ct_eq(secret.expose().as_bytes());
        same.then(|| entry.key.clone())
    }

    /// Keeps a key that has just verified a request.
    pub(super) fn put(&self, scope: &Scope<'_>, secret: &SecretString, key: SigningKey) {
        let entry = Entry {
            access_key_id: scope.access_key_id.to_owned(),
            line: scope.line.to_owned(),
            secret: secret.clone(),
            key,
        };
        *self.place(scope).lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
    }

    fn place(&self, scope: &Scope<'_>) -> &Mutex<Option<Entry>> {
        let hash = self.hasher.hash_one((scope.access_key_id, scope.line));
        // The remainder is below the number of places, which is a usize.
        &self.places[(hash % self.places.len() as u64) as usize]
    }
}

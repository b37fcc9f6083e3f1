//! The keys of encrypted disks and snapshots that this host has been given: in memory alone, and gone with the process. A
//! command brings those that it needs, sealed for the key pair that was made at this process's start.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use cumulet_certs::{DiskKey, HostKey};
use cumulet_domain::{
    message::{KeyOf, SealedKey},
    rng::SharedRng,
    spec::InstanceSpec,
};

use crate::failure::Failure;

/// See the module.
pub(crate) struct Keys {
    host: HostKey,
    given: Mutex<HashMap<KeyOf, DiskKey>>,
}

impl Keys {
    pub(crate) fn new(rng: &SharedRng) -> Self {
        Keys {
            host: rng.with(HostKey::generate),
            given: Mutex::default(),
        }
    }

    /// What others seal keys with for this process.
    pub(crate) fn public(&self) -> String {
        self.host.public().to_string()
    }

    /// Keeps what a command has brought. What is sealed for somebody else (the process of before, most likely) is left
    /// out: whoever needs it says so.
    pub(crate) fn take(&self, sealed: &[SealedKey]) {
        for key in sealed {
            match self.host.open(&key.of.to_string(), &key.sealed) {
                Ok(opened) => drop(self.given().insert(key.of, opened)),
                Err(error) => tracing::warn!(of = %key.of, %error, "a key of data can't be opened"),
            }
        }
    }

    /// The key of a volume, or of a snapshot.
    ///
    /// # Errors
    /// A temporary failure where it has not been given.
    pub(crate) fn get(&self, of: impl Into<KeyOf>) -> Result<DiskKey, Failure> {
        let of = of.into();
        let given = self.given().get(&of).cloned();
        given.ok_or_else(|| Failure::temporary(format!("the host has not been given the key of {of}")))
    }

    /// Whether all are there that a specification needs.
    pub(crate) fn has_all(&self, spec: &InstanceSpec) -> bool {
        let mut encrypted = spec.disks.iter().filter(|disk| disk.encrypted);
        let given = self.given();
        encrypted.all(|disk| given.contains_key(&disk.volume.into()))
    }

    /// The host has nothing to do with it any more.
    pub(crate) fn forget(&self, of: impl Into<KeyOf>) {
        self.given().remove(&of.into());
    }

    fn given(&self) -> std::sync::MutexGuard<'_, HashMap<KeyOf, DiskKey>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use cumulet_certs::HostPublicKey;
    use cumulet_domain::id::{SnapshotId, VolumeId};

    use super::*;

    #[test]
    fn a_key_is_there_from_when_it_was_given_until_its_owner_goes() {
        let rng = SharedRng::seeded(1);
        let (keys, before) = (Keys::new(&rng), Keys::new(&rng));
        let [a, b] = [1, 2].map(VolumeId::new);
        let key = rng.with(DiskKey::generate);
        let seal = |keys: &Keys, of: KeyOf| {
            let public: HostPublicKey = keys.public().parse().unwrap();
            let sealed = rng.with(|rng| public.seal(rng, &of.to_string(), &key)).unwrap();
            SealedKey { of, sealed }
        };
        let lacks = "the host has not been given the key of vol-";
        assert!(keys.get(a).unwrap_err().reason.starts_with(lacks));
        keys.take(&[seal(&keys, a.into()), seal(&before, b.into())]);
        assert_eq!(keys.get(a), Ok(key.clone()));
        assert!(keys.get(b).is_err(), "it was sealed for the process of before");
        // A snapshot of the same number is another.
        let snapshot = SnapshotId::new(1);
        assert!(keys.get(snapshot).is_err());
        keys.take(&[seal(&keys, snapshot.into())]);
        keys.forget(a);
        assert!(keys.get(a).is_err());
        assert_eq!(keys.get(snapshot), Ok(key));
    }
}

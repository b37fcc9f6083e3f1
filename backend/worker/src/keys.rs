//! The keys of encrypted disks that this host has been given: in memory alone, and gone with the process. A command
//! brings those that it needs, sealed for the key pair that was made at this process's start.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use cumulet_certs::{DiskKey, HostKey};
use cumulet_domain::{id::VolumeId, message::SealedKey, rng::SharedRng, spec::InstanceSpec};

use crate::failure::Failure;

/// See the module.
pub(crate) struct Keys {
    host: HostKey,
    given: Mutex<HashMap<VolumeId, DiskKey>>,
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
            match self.host.open(&key.volume.to_string(), &key.sealed) {
                Ok(opened) => drop(self.given().insert(key.volume, opened)),
                Err(error) => tracing::warn!(volume = %key.volume, %error, "a disk's key can't be opened"),
            }
        }
    }

    /// A volume's key.
    ///
    /// # Errors
    /// A temporary failure where it has not been given.
    pub(crate) fn get(&self, volume: VolumeId) -> Result<DiskKey, Failure> {
        let given = self.given().get(&volume).cloned();
        given.ok_or_else(|| Failure::temporary(format!("the host has not been given the key of {volume}")))
    }

    /// Whether all are there that a specification needs.
    pub(crate) fn has_all(&self, spec: &InstanceSpec) -> bool {
        let mut encrypted = spec.disks.iter().filter(|disk| disk.encrypted);
        let given = self.given();
        encrypted.all(|disk| given.contains_key(&disk.volume))
    }

    /// The host has nothing to do with the volume any more.
    pub(crate) fn forget(&self, volume: VolumeId) {
        self.given().remove(&volume);
    }

    fn given(&self) -> std::sync::MutexGuard<'_, HashMap<VolumeId, DiskKey>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use cumulet_certs::HostPublicKey;

    use super::*;

    #[test]
    fn a_key_is_there_from_when_it_was_given_until_the_volume_goes() {
        let rng = SharedRng::seeded(1);
        let (keys, before) = (Keys::new(&rng), Keys::new(&rng));
        let [a, b] = [1, 2].map(VolumeId::new);
        let key = rng.with(DiskKey::generate);
        let seal = |keys: &Keys, volume: VolumeId| {
            let public: HostPublicKey = keys.public().parse().unwrap();
            let sealed = rng
                .with(|rng| public.seal(rng, &volume.to_string(), &key))
                .unwrap();
            SealedKey { volume, sealed }
        };
        let lacks = "the host has not been given the key of vol-";
        assert!(keys.get(a).unwrap_err().reason.starts_with(lacks));
        keys.take(&[seal(&keys, a), seal(&before, b)]);
        assert_eq!(keys.get(a), Ok(key.clone()));
        assert!(keys.get(b).is_err(), "it was sealed for the process of before");
        keys.forget(a);
        assert!(keys.get(a).is_err());
    }
}

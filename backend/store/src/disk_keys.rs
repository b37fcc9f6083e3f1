//! Data keys at rest: sealed with the master key and bound to the volume or snapshot that has them. They are opened to
//! be given to a host, and for a row that inherits one, and nowhere else.

use cumulet_certs::{DiskKey, SealError, Sealer};
use cumulet_domain::{Error, Result, rng::SharedRng};

use crate::entity::secret_text::SecretText;

/// A new key for a row of this id.
///
/// # Errors
/// None that a right program has: those of sealing.
pub fn fresh(rng: &SharedRng, sealer: &Sealer, id: impl ToString) -> Result<SecretText> {
    let key = rng.with(|rng| DiskKey::generate(rng));
    seal(rng, sealer, id, &key)
}

/// The key that one row has, for another: what is made of a snapshot has its key, and a snapshot its volume's.
///
/// # Errors
/// `Internal` when the row is damaged, or the master key is not the one that sealed it.
pub fn inherited(
    rng: &SharedRng,
    sealer: &Sealer,
    (from, kept): (impl ToString, &SecretText),
    id: impl ToString,
) -> Result<SecretText> {
    seal(rng, sealer, id, &open(sealer, from, kept)?)
}

/// The key of a row of this id.
///
/// # Errors
/// `Internal` when the row is damaged, or the master key is not the one that sealed it.
pub fn open(sealer: &Sealer, id: impl ToString, kept: &SecretText) -> Result<DiskKey> {
    DiskKey::open(sealer, &id.to_string(), kept.expose()).map_err(|error| internal(&error))
}

fn seal(rng: &SharedRng, sealer: &Sealer, id: impl ToString, key: &DiskKey) -> Result<SecretText> {
    let sealed = rng.with(|rng| key.seal(sealer, rng, &id.to_string()));
    sealed.map(SecretText::from).map_err(|error| internal(&error))
}

fn internal(error: &SealError) -> Error {
    Error::internal(error)
}

#[cfg(test)]
mod tests {
    use cumulet_certs::MasterKey;
    use cumulet_domain::id::{SnapshotId, VolumeId};

    use super::*;

    #[test]
    fn a_snapshot_has_its_volumes_key_and_another_volume_has_another() {
        let (rng, sealer) = (SharedRng::seeded(1), Sealer::new(MasterKey::from_bytes([1; 32])));
        let (volume, snapshot) = (VolumeId::new(1), SnapshotId::new(1));
        let kept = fresh(&rng, &sealer, volume).unwrap();
        let theirs = inherited(&rng, &sealer, (volume, &kept), snapshot).unwrap();
        assert_ne!(theirs, kept);
        let key = open(&sealer, volume, &kept).unwrap();
        assert_eq!(open(&sealer, snapshot, &theirs).unwrap(), key);
        assert!(open(&sealer, snapshot, &kept).is_err());
        let other = fresh(&rng, &sealer, volume).unwrap();
        assert_ne!(open(&sealer, volume, &other).unwrap(), key);
    }
}

//! Data keys at rest: sealed with the master key and bound to the volume or snapshot that has them. They are opened to
//! be given to a host, and for a row that inherits one, and nowhere else. Each has a name, which all rows that have the
//! key have in front of it, so that a line is told from another without opening anything.

use cumulet_certs::{DiskKey, SealError, Sealer};
use cumulet_domain::{Error, Result, rng::SharedRng};
use rand::Rng as _;

use crate::entity::secret_text::SecretText;

/// What is between a key's name and the sealed key: nothing that either has.
const BETWEEN: char = '.';

/// A new key for a row of this id.
///
/// # Errors
/// None that a right program has: those of sealing.
pub fn fresh(rng: &SharedRng, sealer: &Sealer, id: impl ToString) -> Result<SecretText> {
    let (name, key) = rng.with(|rng| (rng.next_u64(), DiskKey::generate(rng)));
    let name = format!("{name:016x}");
    seal(rng, sealer, id, (&name, &key))
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
    seal(rng, sealer, id, (name(kept), &open(sealer, from, kept)?))
}

/// The key of a row of this id.
///
/// # Errors
/// `Internal` when the row is damaged, or the master key is not the one that sealed it.
pub fn open(sealer: &Sealer, id: impl ToString, kept: &SecretText) -> Result<DiskKey> {
    let (_, sealed) = parts(kept);
    DiskKey::open(sealer, &id.to_string(), sealed).map_err(|error| internal(&error))
}

/// What all rows that have a key call it. It says nothing of the key.
pub fn name(kept: &SecretText) -> &str {
    parts(kept).0
}

fn parts(kept: &SecretText) -> (&str, &str) {
    kept.expose().split_once(BETWEEN).unwrap_or(("", kept.expose()))
}

fn seal(
    rng: &SharedRng,
    sealer: &Sealer,
    id: impl ToString,
    (name, key): (&str, &DiskKey),
) -> Result<SecretText> {
    let sealed = rng.with(|rng| key.seal(sealer, rng, &id.to_string()));
    let sealed = sealed.map_err(|error| internal(&error))?;
    Ok(format!("{name}{BETWEEN}{sealed}").into())
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
        assert_eq!((name(&theirs), name(&kept).len()), (name(&kept), 16));
        let key = open(&sealer, volume, &kept).unwrap();
        assert_eq!(open(&sealer, snapshot, &theirs).unwrap(), key);
        assert!(open(&sealer, snapshot, &kept).is_err());
        let other = fresh(&rng, &sealer, volume).unwrap();
        assert_ne!(open(&sealer, volume, &other).unwrap(), key);
        assert_ne!(name(&other), name(&kept));
    }
}

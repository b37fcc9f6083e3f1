//! Data keys of volumes: 32 random bytes each, which a volume shares with its snapshots and with what is made of those,
//! as on EBS. Nothing is encrypted with a key itself: what a host opens a disk with, and what it encrypts a snapshot's
//! blocks with, are derived from it. It is kept sealed by the cloud, for one row, and given to a host sealed for that.

use rand::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    kdf::derive,
    seal::{Purpose, SealError, Sealer},
    secret::{Secret, SecretString},
};

/// The bytes of a key.
pub(crate) const LENGTH: usize = 32;

/// See the module. It is wiped when it is dropped, and prints as nothing of itself.
#[derive(Clone)]
pub struct DiskKey(Secret<[u8; LENGTH]>);

impl std::fmt::Debug for DiskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskKey")
    }
}

impl PartialEq for DiskKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose().ct_eq(other.0.expose()).into()
    }
}

impl Eq for DiskKey {}

impl DiskKey {
    /// A new key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; LENGTH];
        rng.fill_bytes(&mut bytes);
        DiskKey(Secret::new(bytes))
    }

    /// The key of these bytes; `None` where they are no key's.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| DiskKey(Secret::new(bytes)))
    }

    pub(crate) fn bytes(&self) -> &[u8; LENGTH] {
        self.0.expose()
    }

    /// The key as a row has it; `row` is that row's id.
    ///
    /// # Errors
    /// Those of sealing.
    pub fn seal<R: CryptoRng + ?Sized>(
        &self,
        sealer: &Sealer,
        rng: &mut R,
        row: &str,
    ) -> Result<String, SealError> {
        sealer.seal(rng, Purpose::DISK_KEY, row.as_bytes(), self.bytes())
    }

    /// The inverse of [`DiskKey::seal`].
    ///
    /// # Errors
    /// Where another cloud has sealed it, or something else, or for another row.
    pub fn open(sealer: &Sealer, row: &str, sealed: &str) -> Result<Self, SealError> {
        let bytes = sealer.open(Purpose::DISK_KEY, row.as_bytes(), sealed)?;
        DiskKey::from_slice(bytes.expose()).ok_or(SealError::Invalid)
    }

    /// What a disk's file is opened with: the passphrase of its LUKS header, 64 hexadecimal digits.
    pub fn passphrase(&self) -> SecretString {
        let derived = derive(self.bytes(), "disk passphrase", &[]);
        SecretString::new(hex::encode(derived.as_slice()))
    }

    /// What the keys are made of that snapshots' blocks are encrypted with.
    pub fn of_blocks(&self) -> Zeroizing<[u8; 32]> {
        derive(self.bytes(), "snapshot blocks", &[])
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::master_key::MasterKey;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(MasterKey::from_bytes([byte; 32]))
    }

    #[test]
    fn a_key_opens_for_its_row_alone() {
        let mut rng = StdRng::seed_from_u64(1);
        let key = DiskKey::generate(&mut rng);
        assert_ne!(key, DiskKey::generate(&mut rng));
        let sealed = key.seal(&sealer(9), &mut rng, "vol-1").unwrap();
        assert_eq!(DiskKey::open(&sealer(9), "vol-1", &sealed), Ok(key));
        for (cloud, row) in [(9, "vol-2"), (8, "vol-1")] {
            assert_eq!(
                DiskKey::open(&sealer(cloud), row, &sealed),
                Err(SealError::Invalid),
                "{cloud} {row}"
            );
        }
        let short = sealer(9).seal(&mut rng, Purpose::DISK_KEY, b"vol-1", &[1; 31]);
        assert!(DiskKey::open(&sealer(9), "vol-1", &short.unwrap()).is_err());
    }

    /// Disks and snapshots outlive releases.
    #[test]
    fn what_is_derived_is_stable_and_says_nothing_of_the_rest() {
        let key = DiskKey::from_slice(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "DiskKey");
        let (passphrase, blocks) = (key.passphrase(), hex::encode(key.of_blocks().as_slice()));
        // Computed with Python's `hmac`: HKDF-SHA256, salt `cumulet/v1`, info the label after its length in
        // eight bytes.
        assert_eq!(passphrase.expose(), PASSPHRASE);
        assert_eq!(blocks, BLOCKS);
    }

    const PASSPHRASE: &str = "7b6e24589cb7d04fa50c0834698c029165340e8beb1eb6b6708da82c9dfa61a2";
    const BLOCKS: &str = "8c77fb382e5369894157dcbe427acae0ad9b4805e31181b5afffe337d0d18e49";
}

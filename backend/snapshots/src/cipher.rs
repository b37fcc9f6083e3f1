//! Encryption of a snapshot's blocks: XTS-AES-256 over sectors of 4096 bytes, whose tweak is the sector's number on the
//! disk (little-endian, as dm-crypt's plain64). So the same content at the same place under the same key is the same
//! ciphertext, and a snapshot over another knows by the digests of ciphertext what has not changed.
//!
//! What that hides is content. It does not hide where a disk has nothing (blocks of zeros are not kept, encrypted or
//! not) nor which blocks differ between snapshots under one key. That nobody has changed the ciphertext is known by the
//! digests in the manifest, whose own digest is kept elsewhere.

use aes::{Aes256, cipher::KeyInit as _};
use hkdf::Hkdf;
use sha2::Sha256;
use xts_mode::{Xts128, get_tweak_default};
use zeroize::Zeroizing;

/// The bytes that are encrypted as one.
const SECTOR: usize = 4096;

/// Of every derivation here; a part of the stored form, as are the infos below.
const SALT: &[u8] = b"cumulet/snapshot/v1";

/// What tells a key from another without telling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyCheck(pub(crate) [u8; 16]);

/// A key that blocks are encrypted with. It is made of 32 secret bytes, which only one disk's snapshots should have:
/// two disks under one key show where they are the same.
#[derive(Clone)]
pub struct BlockKey {
    data: Zeroizing<[u8; 32]>,
    tweak: Zeroizing<[u8; 32]>,
    check: KeyCheck,
}

impl BlockKey {
    /// The key that these bytes make.
    pub fn new(secret: &[u8; 32]) -> Self {
        BlockKey {
            data: derived(secret, b"xts data"),
            tweak: derived(secret, b"xts tweak"),
            check: KeyCheck(*derived(secret, b"check")),
        }
    }

    pub(crate) fn check(&self) -> KeyCheck {
        self.check
    }

    pub(crate) fn cipher(&self) -> Cipher {
        let of = |key: &[u8; 32]| Aes256::new(key.into());
        Cipher(Xts128::new(of(&self.data), of(&self.tweak)))
    }
}

impl std::fmt::Debug for BlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockKey(…)")
    }
}

fn derived<const BYTES: usize>(secret: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; BYTES]> {
    let mut out = Zeroizing::new([0; BYTES]);
    let expanded = Hkdf::<Sha256>::new(Some(SALT), secret).expand(info, out.as_mut_slice());
    // The only error is an output longer than 255 hashes.
    debug_assert!(expanded.is_ok());
    out
}

/// A key at work. Its schedules are wiped when it is dropped.
pub(crate) struct Cipher(Xts128<Aes256>);

impl Cipher {
    /// Encrypts the block at this offset of the disk.
    pub(crate) fn encrypt(&self, offset: u64, block: &mut [u8]) {
        for (number, sector) in sectors(offset, block) {
            self.0.encrypt_sector(sector, get_tweak_default(number));
        }
    }

    /// Decrypts the block at this offset of the disk.
    pub(crate) fn decrypt(&self, offset: u64, block: &mut [u8]) {
        for (number, sector) in sectors(offset, block) {
            self.0.decrypt_sector(sector, get_tweak_default(number));
        }
    }
}

/// The sectors of a block, with their numbers. A block is whole, also that which the disk ends in.
fn sectors(offset: u64, block: &mut [u8]) -> impl Iterator<Item = (u128, &mut [u8])> {
    let first = u128::from(offset) / SECTOR as u128;
    let (sectors, rest) = block.as_chunks_mut::<SECTOR>();
    debug_assert!(rest.is_empty());
    (first..).zip(sectors.iter_mut().map(<[u8; SECTOR]>::as_mut_slice))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?}", BlockKey::new(&[7; 32])), "BlockKey(…)");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_encrypted_is_decrypted_at_its_place_with_its_key(
            secret in any::<[u8; 32]>(),
            other in any::<[u8; 32]>(),
            sector in 0_u64..1 << 40,
            content in prop::collection::vec(any::<u8>(), SECTOR * 2),
        ) {
            let key = BlockKey::new(&secret);
            let (offset, cipher) = (sector * SECTOR as u64, key.cipher());
            let mut block = content.clone();
            cipher.encrypt(offset, &mut block);
            let encrypted = block.clone();
            cipher.decrypt(offset, &mut block);
            prop_assert_eq!(&block, &content);
            let mut again = content.clone();
            key.clone().cipher().encrypt(offset, &mut again);
            prop_assert_eq!(&again, &encrypted);
            cipher.decrypt(offset + SECTOR as u64, &mut again);
            prop_assert_ne!(&again, &content);
            let mut again = encrypted.clone();
            BlockKey::new(&other).cipher().decrypt(offset, &mut again);
            prop_assert_eq!(again == content, secret == other);
        }
    }
}

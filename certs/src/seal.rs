//! Sealing: authenticated encryption of small texts under a key derived for their purpose.
//!
//! Used for secrets at rest and for tokens that a client carries but must neither read nor change
//! (pagination). The text form is unpadded base64url of
//!
//! ```text
//! version 1 byte (1) | salt 12 bytes | nonce 12 bytes | AES-256-GCM ciphertext | tag 16 bytes
//! ```
//!
//! The message key is HMAC-SHA256(purpose key, salt), so the 24 random bytes act as one nonce:
//! a purpose may seal far more than the 2^32 messages that 12 random bytes alone would allow.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::master_key::MasterKey;
use crate::secret::SecretBytes;

const VERSION: u8 = 1;
const SALT_LEN: usize = 12;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 1 + SALT_LEN + NONCE_LEN;

/// The longest plaintext that is sealed: far above any secret or token, far below harm.
pub const MAX_PLAINTEXT: usize = 1 << 20;

/// What a sealed text is for. Texts of one purpose never open under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Purpose(&'static str);

impl Purpose {
    /// Secret access keys in the database.
    pub const ACCESS_KEY: Self = Self("access-key");
    /// Pagination tokens handed to clients.
    pub const PAGE_TOKEN: Self = Self("page-token");
    /// User data of instances at rest.
    pub const USER_DATA: Self = Self("user-data");
    /// Data keys of volumes and snapshots.
    pub const DISK_KEY: Self = Self("disk-key");
    /// What hosts may do with the stores of images and of snapshots.
    pub const STORAGE_GRANT: Self = Self("storage-grant");
    /// Private keys of the cloud itself (CA, document signing).
    pub const PRIVATE_KEY: Self = Self("private-key");

    /// A purpose of one's own; the label is part of the key derivation and must not change.
    pub const fn new(label: &'static str) -> Self {
        Self(label)
    }

    /// The label.
    pub const fn label(self) -> &'static str {
        self.0
    }
}

/// Why a text was not sealed or not opened. It never says which check failed: that would be an
/// oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not made by this cloud for this purpose and these associated data, or changed since.
    #[error("the sealed text is not valid here")]
    Invalid,
    /// More than [`MAX_PLAINTEXT`].
    #[error("the text is too long to be sealed")]
    TooLong,
}

/// Seals and opens texts under keys derived from one master key.
#[derive(Clone, Debug)]
pub struct Sealer {
    master: MasterKey,
}

impl Sealer {
    /// A sealer over `master`.
    pub fn new(master: MasterKey) -> Self {
        Self { master }
    }

    /// The master key below, for the derivations that are not sealing (metadata tokens).
    pub fn master(&self) -> &MasterKey {
        &self.master
    }

    /// Encrypts `plaintext` for `purpose`. `aad` (the row's id, the account) is not stored, but the
    /// same bytes must be given to open it: a sealed text can't be moved to another row.
    pub fn seal<R: CryptoRng + ?Sized>(
        &self,
        rng: &mut R,
        purpose: Purpose,
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<String, SealError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(SealError::TooLong);
        }
        let mut out = Vec::with_capacity(HEADER_LEN + plaintext.len() + TAG_LEN);
        out.resize(HEADER_LEN, 0);
        out[0] = VERSION;
        rng.fill_bytes(&mut out[1..]);
        let (cipher, nonce) = self.cipher(purpose, &out[1..HEADER_LEN])?;
        let sealed = cipher
            .encrypt((&nonce).into(), Payload { msg: plaintext, aad })
            .map_err(|_| SealError::TooLong)?;
        out.extend_from_slice(&sealed);
        Ok(URL_SAFE_NO_PAD.encode(out))
    }

    /// Decrypts what [`Sealer::seal`] made with the same purpose and associated data.
    pub fn open(&self, purpose: Purpose, aad: &[u8], sealed: &str) -> Result<SecretBytes, SealError> {
        let longest = (HEADER_LEN + MAX_PLAINTEXT + TAG_LEN).div_ceil(3) * 4;
        if sealed.len() > longest {
            return Err(SealError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| SealError::Invalid)?;
        if bytes.len() < HEADER_LEN + TAG_LEN || bytes[0] != VERSION {
            return Err(SealError::Invalid);
        }
        let (header, ciphertext) = bytes.split_at(HEADER_LEN);
        let (cipher, nonce) = self.cipher(purpose, &header[1..])?;
        cipher
            .decrypt((&nonce).into(), Payload { msg: ciphertext, aad })
            .map(SecretBytes::new)
            .map_err(|_| SealError::Invalid)
    }

    /// The cipher and the nonce for one message.
    fn cipher(&self, purpose: Purpose, random: &[u8]) -> Result<(Aes256Gcm, [u8; NONCE_LEN]), SealError> {
        let (salt, nonce) = random.split_at(SALT_LEN);
        let purpose_key = self.master.derive("seal", &[purpose.0.as_bytes()]);
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(purpose_key.as_slice())
            .map_err(|_| SealError::Invalid)?;
        mac.update(salt);
        let message_key: Zeroizing<[u8; 32]> = Zeroizing::new(mac.finalize().into_bytes().into());
        let nonce: [u8; NONCE_LEN] = nonce.try_into().map_err(|_| SealError::Invalid)?;
        let cipher = Aes256Gcm::new_from_slice(message_key.as_slice()).map_err(|_| SealError::Invalid)?;
        Ok((cipher, nonce))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(MasterKey::from_bytes([9; 32]))
    }

    #[test]
    fn opens_only_with_same_key_purpose_and_aad() {
        let sealer = sealer();
        let mut rng = StdRng::seed_from_u64(1);
        let text = sealer
            .seal(&mut rng, Purpose::ACCESS_KEY, b"row-1", b"secret")
            .unwrap();
        let open = |s: &Sealer, p, a: &[u8]| s.open(p, a, &text).map(|b| b.expose().clone());
        assert_eq!(
            open(&sealer, Purpose::ACCESS_KEY, b"row-1"),
            Ok(b"secret".to_vec())
        );
        assert_eq!(
            open(&sealer, Purpose::PAGE_TOKEN, b"row-1"),
            Err(SealError::Invalid)
        );
        assert_eq!(
            open(&sealer, Purpose::ACCESS_KEY, b"row-2"),
            Err(SealError::Invalid)
        );
        let other = Sealer::new(MasterKey::from_bytes([8; 32]));
        assert_eq!(
            open(&other, Purpose::ACCESS_KEY, b"row-1"),
            Err(SealError::Invalid)
        );
    }

    #[test]
    fn every_changed_or_missing_character_is_noticed() {
        let sealer = sealer();
        let text = sealer
            .seal(
                &mut StdRng::seed_from_u64(2),
                Purpose::PAGE_TOKEN,
                b"",
                b"after=i-1",
            )
            .unwrap();
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                sealer.open(Purpose::PAGE_TOKEN, b"", &changed).is_err(),
                "{index}"
            );
            assert!(
                sealer.open(Purpose::PAGE_TOKEN, b"", &text[..index]).is_err(),
                "{index}"
            );
        }
        assert!(
            sealer
                .open(Purpose::PAGE_TOKEN, b"", &format!("{text}="))
                .is_err()
        );
    }

    #[test]
    fn same_text_seals_differently_each_time() {
        let sealer = sealer();
        let mut rng = StdRng::seed_from_u64(3);
        let mut seal = || sealer.seal(&mut rng, Purpose::PAGE_TOKEN, b"", b"same").unwrap();
        assert_ne!(seal(), seal());
    }

    /// The stored form must not drift: databases outlive releases. Computed with Python's `hmac` and
    /// `cryptography` from the description above.
    #[test]
    fn stored_form_is_stable() {
        let text = "AQABAgMEBQYHCAkKC2RlZmdoaWprbG1ubw1lkIPovUaPR0v7nxGVTThzj9a9Gg";
        let opened = sealer().open(Purpose::ACCESS_KEY, b"row", text).unwrap();
        assert_eq!(opened.expose(), b"fixed");
    }

    #[test]
    fn length_limit() {
        let sealer = sealer();
        let mut rng = StdRng::seed_from_u64(4);
        let long = vec![0; MAX_PLAINTEXT];
        let text = sealer.seal(&mut rng, Purpose::USER_DATA, b"", &long).unwrap();
        assert_eq!(
            sealer
                .open(Purpose::USER_DATA, b"", &text)
                .unwrap()
                .expose()
                .len(),
            MAX_PLAINTEXT
        );
        let longer = vec![0; MAX_PLAINTEXT + 1];
        assert_eq!(
            sealer.seal(&mut rng, Purpose::USER_DATA, b"", &longer),
            Err(SealError::TooLong)
        );
        assert!(
            sealer
                .open(Purpose::USER_DATA, b"", &"A".repeat(2 << 20))
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn round_trip(plain in proptest::collection::vec(any::<u8>(), 0..200),
                      aad in proptest::collection::vec(any::<u8>(), 0..40), seed in any::<u64>()) {
            let text = sealer().seal(&mut StdRng::seed_from_u64(seed), Purpose::USER_DATA, &aad, &plain).unwrap();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            let opened = sealer().open(Purpose::USER_DATA, &aad, &text).unwrap();
            prop_assert_eq!(opened.expose(), &plain);
        }

        #[test]
        fn garbage_never_opens(text in ".{0,120}") {
            prop_assert!(sealer().open(Purpose::USER_DATA, b"", &text).is_err());
        }
    }
}

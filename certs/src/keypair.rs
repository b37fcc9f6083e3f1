//! SSH key pairs as EC2 makes them: RSA-2048 in a PKCS#1 PEM, ED25519 in OpenSSH's own PEM.
//!
//! Fingerprints follow EC2's rules, which differ by origin:
//!
//! | key | created here | imported |
//! |---|---|---|
//! | RSA | SHA-1 of the PKCS#8 DER **private** key, colon hex | MD5 of the DER (SPKI) public key, colon hex |
//! | ED25519 | SHA-256 of the SSH public key blob, base64 | the same |
//!
//! EC2 prints the base64 with its `=`, where `ssh-keygen` leaves it out and writes `SHA256:` before.

use cumulet_domain::named;
use md5::Md5;
use rand::CryptoRng;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::public::{Ed25519PublicKey, KeyData, RsaPublicKey};
use zeroize::Zeroizing;

use crate::legacy_rng::LegacyRng;
use crate::secret::SecretString;

/// Size of the RSA keys that are made here.
pub const RSA_BITS: usize = 2048;

named! {
    /// Kind of a key pair; EC2 knows these two. The name is that on EC2's wire.
    KeyType {
        /// RSA.
        Rsa = "rsa",
        /// ED25519.
        Ed25519 = "ed25519",
    }
}

/// Generating a key pair failed, inside one of the cryptographic libraries.
#[derive(Debug, thiserror::Error)]
#[error("key generation failed: {0}")]
pub struct KeyPairError(String);

fn failed(error: impl std::fmt::Display) -> KeyPairError {
    KeyPairError(error.to_string())
}

/// A new key pair. The private half is shown once and never stored.
#[derive(Debug)]
pub struct KeyPair {
    /// The public half.
    pub public: PublicKey,
    /// The private half, PEM.
    pub private_pem: SecretString,
    /// EC2's fingerprint of a key that it created.
    pub fingerprint: String,
}

impl KeyPair {
    /// Generates a key pair of the given kind. RSA takes a noticeable time (some 100 ms): call it
    /// where blocking is allowed.
    pub fn generate<R: CryptoRng + ?Sized>(key_type: KeyType, rng: &mut R) -> Result<Self, KeyPairError> {
        match key_type {
            KeyType::Rsa => {
                Self::from_rsa(&rsa::RsaPrivateKey::new(&mut LegacyRng(rng), RSA_BITS).map_err(failed)?)
            }
            KeyType::Ed25519 => {
                let mut seed = Zeroizing::new([0_u8; 32]);
                rng.fill_bytes(seed.as_mut_slice());
                Self::from_ed25519_seed(&seed)
            }
        }
    }

    pub(crate) fn from_rsa(key: &rsa::RsaPrivateKey) -> Result<Self, KeyPairError> {
        let der = key.to_pkcs8_der().map_err(failed)?;
        let pem = key.to_pkcs1_pem(LineEnding::LF).map_err(failed)?;
        let public = RsaPublicKey::try_from(key.to_public_key()).map_err(failed)?;
        Ok(Self {
            fingerprint: colon_hex(&Sha1::digest(der.as_bytes())),
            public: PublicKey::from_rsa(public)?,
            private_pem: SecretString::from(pem.as_str()),
        })
    }

    pub(crate) fn from_ed25519_seed(seed: &[u8; 32]) -> Result<Self, KeyPairError> {
        let pair = Ed25519Keypair::from_seed(seed);
        let public = PublicKey::from_ed25519(pair.public);
        let private = ssh_key::PrivateKey::new(KeypairData::Ed25519(pair), "").map_err(failed)?;
        let pem = private.to_openssh(LineEnding::LF).map_err(failed)?;
        Ok(Self {
            fingerprint: public.fingerprint().to_owned(),
            public,
            private_pem: SecretString::from(pem.as_str()),
        })
    }
}

/// A public key that EC2 accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    key_type: KeyType,
    data: KeyData,
    fingerprint: String,
}

impl PublicKey {
    pub(crate) fn from_rsa(key: RsaPublicKey) -> Result<Self, KeyPairError> {
        let spki = rsa_key(&key)
            .map_err(failed)?
            .to_public_key_der()
            .map_err(failed)?;
        let fingerprint = colon_hex(&Md5::digest(spki.as_bytes()));
        Ok(Self {
            key_type: KeyType::Rsa,
            data: KeyData::Rsa(key),
            fingerprint,
        })
    }

    pub(crate) fn from_ed25519(key: Ed25519PublicKey) -> Self {
        use base64::Engine;
        let mut blob = Vec::with_capacity(51);
        for part in [b"ssh-ed25519".as_slice(), &key.0] {
            blob.extend_from_slice(&(part.len() as u32).to_be_bytes());
            blob.extend_from_slice(part);
        }
        let fingerprint = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&blob));
        Self {
            key_type: KeyType::Ed25519,
            data: KeyData::Ed25519(key),
            fingerprint,
        }
    }

    /// RSA or ED25519.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// EC2's fingerprint of an imported key.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The line for `authorized_keys`, with `comment` (EC2 puts the key pair's name) and no newline.
    /// Control characters are left out of the comment, so it always is one line.
    pub fn openssh_line(&self, comment: &str) -> String {
        let comment: String = comment.chars().filter(|c| !c.is_control()).collect();
        // Encoding fails for unknown key kinds only, and this type holds two known ones.
        ssh_key::PublicKey::new(self.data.clone(), comment.trim())
            .to_openssh()
            .unwrap_or_default()
    }
}

/// The same key for the RSA library, which checks that modulus and exponent are usable.
pub(crate) fn rsa_key(key: &RsaPublicKey) -> Result<rsa::RsaPublicKey, rsa::Error> {
    let number = |part: &ssh_key::Mpint| part.as_positive_bytes().map(rsa::BigUint::from_bytes_be);
    let modulus = number(&key.n).ok_or(rsa::Error::InvalidModulus)?;
    let exponent = number(&key.e).ok_or(rsa::Error::InvalidExponent)?;
    rsa::RsaPublicKey::new(modulus, exponent)
}

fn colon_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

#[cfg(test)]
#[path = "keypair_tests.rs"]
mod tests;

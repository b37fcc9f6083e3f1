//! Session tokens of the metadata service (IMDSv2).
//!
//! Nothing is stored per token: a token is its own expiry time under authenticated encryption.
//! The key is HKDF(cluster secret, "imds-token" | instance id | epoch), so a token works on every
//! host its instance migrates to, survives restarts, works for no other instance, and dies with all
//! its siblings when the instance's epoch is raised. Layout, 40 bytes, in padded base64url (56
//! characters beginning with `AQ`, as the ones of EC2 do):
//!
//! ```text
//! 1 | 0 | 0 | epoch | nonce 12 | AES-256-GCM of the expiry (u64 big-endian, Unix seconds) 8 | tag 16
//! ```

use std::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::master_key::MasterKey;

/// Length of every token in characters.
pub const TOKEN_LEN: usize = 56;
const RAW_LEN: usize = 40;
const HEADER_LEN: usize = 4;
const NONCE_END: usize = HEADER_LEN + 12;

/// Why a token does not open a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImdsTokenError {
    /// Not a token of this instance and epoch.
    #[error("not a token of this instance")]
    Invalid,
    /// It was one, but its time is over.
    #[error("the token has expired")]
    Expired,
}

/// Makes and checks the tokens of one instance. A host gets this key in the instance's snapshot,
/// never the cluster's secret.
#[derive(Clone)]
pub struct ImdsTokenKey {
    epoch: u8,
    key: Zeroizing<[u8; 32]>,
    cipher: Aes256Gcm,
}

impl ImdsTokenKey {
    /// The key of `instance_id` in `epoch`.
    pub fn derive(secret: &MasterKey, instance_id: &str, epoch: u8) -> Self {
        Self::build(
            secret.derive("imds-token", &[instance_id.as_bytes(), &[epoch]]),
            epoch,
        )
    }

    /// A key received from the control plane.
    pub fn from_bytes(key: [u8; 32], epoch: u8) -> Self {
        Self::build(Zeroizing::new(key), epoch)
    }

    /// The key's bytes, to be sent to the instance's host.
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// The epoch that the tokens belong to.
    pub fn epoch(&self) -> u8 {
        self.epoch
    }

    fn build(key: Zeroizing<[u8; 32]>, epoch: u8) -> Self {
        let cipher = Aes256Gcm::new((&*key).into());
        Self { epoch, key, cipher }
    }

    /// A token valid until `expires_at` (Unix seconds, exclusive).
    pub fn mint<R: CryptoRng + ?Sized>(&self, rng: &mut R, expires_at: u64) -> String {
        let mut raw = [0_u8; RAW_LEN];
        raw[0] = 1;
        raw[3] = self.epoch;
        rng.fill_bytes(&mut raw[HEADER_LEN..NONCE_END]);
        let mut nonce = [0_u8; 12];
        nonce.copy_from_slice(&raw[HEADER_LEN..NONCE_END]);
        let header = [1, 0, 0, self.epoch];
        let payload = Payload {
            msg: &expires_at.to_be_bytes(),
            aad: &header,
        };
        // Encrypting 8 bytes can't exceed AES-GCM's limits; were it to fail, the zeros that stay
        // in `raw` are a token that verifies nowhere.
        if let Ok(sealed) = self.cipher.encrypt((&nonce).into(), payload) {
            raw[NONCE_END..].copy_from_slice(&sealed);
        }
        URL_SAFE.encode(raw)
    }

    /// Checks a token against the clock and gives its expiry (Unix seconds).
    pub fn verify(&self, token: &str, now: u64) -> Result<u64, ImdsTokenError> {
        if token.len() != TOKEN_LEN {
            return Err(ImdsTokenError::Invalid);
        }
        // The decoder asks for room by whole groups, padding included: 42 for 56 characters.
        let mut raw = [0_u8; RAW_LEN + 2];
        let len = URL_SAFE
            .decode_slice(token, &mut raw)
            .map_err(|_| ImdsTokenError::Invalid)?;
        let header = [1, 0, 0, self.epoch];
        if len != RAW_LEN || raw[..HEADER_LEN] != header {
            return Err(ImdsTokenError::Invalid);
        }
        let mut nonce = [0_u8; 12];
        nonce.copy_from_slice(&raw[HEADER_LEN..NONCE_END]);
        let payload = Payload {
            msg: &raw[NONCE_END..RAW_LEN],
            aad: &header,
        };
        let plain = self
            .cipher
            .decrypt((&nonce).into(), payload)
            .map_err(|_| ImdsTokenError::Invalid)?;
        let plain: [u8; 8] = plain.try_into().map_err(|_| ImdsTokenError::Invalid)?;
        let expires_at = u64::from_be_bytes(plain);
        if now >= expires_at {
            return Err(ImdsTokenError::Expired);
        }
        Ok(expires_at)
    }
}

impl fmt::Debug for ImdsTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImdsTokenKey")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn secret() -> MasterKey {
        MasterKey::from_bytes([5; 32])
    }

    #[test]
    fn valid_until_expiry_for_this_instance_and_epoch_only() {
        let key = ImdsTokenKey::derive(&secret(), "i-0123456789abcdef0", 1);
        let token = key.mint(&mut StdRng::seed_from_u64(1), 1_000);
        assert_eq!(token.len(), TOKEN_LEN);
        assert!(token.starts_with("AQAA"));
        assert_eq!(key.verify(&token, 999), Ok(1_000));
        assert_eq!(key.verify(&token, 1_000), Err(ImdsTokenError::Expired));
        // A restarted or another host derives or receives the same key.
        assert_eq!(
            ImdsTokenKey::from_bytes(*key.expose(), 1).verify(&token, 0),
            Ok(1_000)
        );
        let foreign = ImdsTokenKey::derive(&secret(), "i-0123456789abcdef1", 1);
        assert_eq!(foreign.verify(&token, 0), Err(ImdsTokenError::Invalid));
        let revoked = ImdsTokenKey::derive(&secret(), "i-0123456789abcdef0", 2);
        assert_eq!(revoked.verify(&token, 0), Err(ImdsTokenError::Invalid));
        // Not even with a changed header byte: the epoch is in the key and authenticated.
        let mut raw = URL_SAFE.decode(&token).unwrap();
        raw[3] = 2;
        assert_eq!(
            revoked.verify(&URL_SAFE.encode(raw), 0),
            Err(ImdsTokenError::Invalid)
        );
    }

    /// Computed with Python's `hmac` and `cryptography` from the layout above: hosts of different
    /// releases must agree.
    #[test]
    fn form_is_stable() {
        let key = ImdsTokenKey::derive(&secret(), "i-0123456789abcdef0", 1);
        let token = "AQAAAWRlZmdoaWprbG1ubwyxof7qD5r6N_dzL9xDoObTS04zigpN7Q==";
        assert_eq!(key.verify(token, 999), Ok(1_000));
    }

    #[test]
    fn forged_tokens_are_refused() {
        let key = ImdsTokenKey::derive(&secret(), "i-1", 0);
        let token = key.mint(&mut StdRng::seed_from_u64(1), 1_000);
        for index in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[index] = if forged[index] == b'B' { b'C' } else { b'B' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(key.verify(&forged, 0), Err(ImdsTokenError::Invalid), "{index}");
        }
        for wrong in [
            "",
            "AQAA",
            &token[..55],
            &format!("{token}A"),
            &"=".repeat(56),
            &"A".repeat(56),
        ] {
            assert_eq!(key.verify(wrong, 0), Err(ImdsTokenError::Invalid), "{wrong}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let text = format!("{:?}", ImdsTokenKey::from_bytes([0x41; 32], 3));
        assert_eq!(text, "ImdsTokenKey { epoch: 3, .. }");
    }
}

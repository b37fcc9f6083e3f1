//! Access keys, their secrets, and account numbers, in the shapes that AWS clients expect.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::{CryptoRng, RngExt};
use zeroize::Zeroizing;

use crate::secret::SecretString;

/// Length of an access key id.
pub const ACCESS_KEY_ID_LEN: usize = 20;
/// Length of a secret access key.
pub const SECRET_KEY_LEN: usize = 40;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Whether a character is one of [`BASE32`]. (Every request asks.)
const fn is_base32(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'2'..=b'7')
}

/// Which kind of credential an access key id names; the first four characters say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKeyKind {
    /// A user's own key, valid until deleted (`AKIA`).
    LongTerm,
    /// A temporary one, used together with a session token (`ASIA`).
    Session,
}

impl AccessKeyKind {
    /// The first four characters of ids of this kind.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::LongTerm => "AKIA",
            Self::Session => "ASIA",
        }
    }

    /// The kind that an id claims to be, if it has the form of an access key id at all.
    pub fn of(id: &str) -> Option<Self> {
        let (prefix, rest) = id.split_at_checked(4)?;
        if id.len() != ACCESS_KEY_ID_LEN || !rest.bytes().all(is_base32) {
            return None;
        }
        [Self::LongTerm, Self::Session]
            .into_iter()
            .find(|kind| kind.prefix() == prefix)
    }
}

/// A new access key id: the kind's prefix and 16 base-32 characters (80 random bits).
pub fn generate_access_key_id<R: CryptoRng + ?Sized>(rng: &mut R, kind: AccessKeyKind) -> String {
    let mut id = String::with_capacity(ACCESS_KEY_ID_LEN);
    id.push_str(kind.prefix());
    let mut random = [0_u8; 16];
    rng.fill_bytes(&mut random);
    id.extend(
        random
            .iter()
            .map(|byte| char::from(BASE32[usize::from(byte & 31)])),
    );
    id
}

/// A new secret access key: 240 random bits as 40 characters of the base-64 alphabet.
pub fn generate_secret_key<R: CryptoRng + ?Sized>(rng: &mut R) -> SecretString {
    let mut random = Zeroizing::new([0_u8; 30]);
    rng.fill_bytes(random.as_mut_slice());
    SecretString::new(STANDARD.encode(random.as_slice()))
}

/// A new 12-digit account number. It never begins with 0, which tools that read YAML or
/// spreadsheets would drop.
pub fn generate_account_id<R: CryptoRng + ?Sized>(rng: &mut R) -> String {
    rng.random_range(100_000_000_000_u64..1_000_000_000_000)
        .to_string()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn shapes() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut ids = std::collections::HashSet::new();
        for _ in 0..500 {
            for kind in [AccessKeyKind::LongTerm, AccessKeyKind::Session] {
                let id = generate_access_key_id(&mut rng, kind);
                assert_eq!(id.len(), ACCESS_KEY_ID_LEN);
                assert_eq!(AccessKeyKind::of(&id), Some(kind));
                assert!(ids.insert(id));
            }
            let secret = generate_secret_key(&mut rng);
            assert_eq!(secret.expose().len(), SECRET_KEY_LEN);
            assert!(
                secret
                    .expose()
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
            );
            let account = generate_account_id(&mut rng);
            assert_eq!(account.len(), 12);
            assert!(account.bytes().all(|b| b.is_ascii_digit()) && !account.starts_with('0'));
        }
    }

    #[test]
    fn kinds_of_ids() {
        assert_eq!(
            AccessKeyKind::of("AKIAIOSFODNN7EXAMPLE"),
            Some(AccessKeyKind::LongTerm)
        );
        assert_eq!(
            AccessKeyKind::of("ASIAIOSFODNN7EXAMPLE"),
            Some(AccessKeyKind::Session)
        );
        for wrong in [
            "",
            "AKIA",
            "AKIAIOSFODNN7EXAMPL",
            "AKIAIOSFODNN7EXAMPLE1",
            "AROAIOSFODNN7EXAMPLE",
        ] {
            assert_eq!(AccessKeyKind::of(wrong), None, "{wrong}");
        }
        assert_eq!(AccessKeyKind::of("akiaiosfodnn7example"), None);
        assert_eq!(AccessKeyKind::of("ÄÄÄÄÄÄÄÄÄÄ"), None);
    }
}

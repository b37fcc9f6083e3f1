//! Console tokens, signed with a key of the cloud (Ed25519). The holder of the public half can tell that a
//! token was made by the control plane, and can make none. The text is unpadded base64url of
//!
//! ```text
//! version 1 byte (1) | kind 1 | instance 8 | issued 8 | expires 8 | nonce 16 | address 0..255 | signature 64
//! ```
//!
//! where numbers are big-endian, and the signature is over the text `cumulet console 1` and a zero, then
//! all that comes before it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cumulet_domain::console::{ConsoleGrant, ConsoleKind, ConsoleRefusal, MAX_ADDRESS};
use cumulet_domain::id::InstanceId;
use cumulet_domain::time::Timestamp;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand::CryptoRng;

use crate::seal::{Purpose, SealError, Sealer};

const VERSION: u8 = 1;
const HEAD: usize = 2 + 8 + 8 + 8 + 16;
const SIGNATURE: usize = 64;

/// What no other signature of the cloud's begins with.
const CONTEXT: &[u8] = b"cumulet console 1\0";

/// The associated data of the sealed key.
const ROW: &[u8] = b"console";

/// The longest token's text.
pub const MAX_TOKEN: usize = (HEAD + MAX_ADDRESS + SIGNATURE).div_ceil(3) * 4;

/// Makes tokens. Its secret half never leaves the control plane.
pub struct ConsoleSigner(SigningKey);

impl std::fmt::Debug for ConsoleSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsoleSigner")
    }
}

impl ConsoleSigner {
    /// A new key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        ConsoleSigner(SigningKey::from_bytes(&seed))
    }

    /// The key as the database keeps it.
    ///
    /// # Errors
    /// Those of sealing.
    pub fn seal<R: CryptoRng + ?Sized>(&self, sealer: &Sealer, rng: &mut R) -> Result<String, SealError> {
        sealer.seal(rng, Purpose::PRIVATE_KEY, ROW, self.0.as_bytes())
    }

    /// The inverse of [`ConsoleSigner::seal`].
    ///
    /// # Errors
    /// When another cloud has sealed it, or something else.
    pub fn open(sealer: &Sealer, sealed: &str) -> Result<Self, SealError> {
        let bytes = sealer.open(Purpose::PRIVATE_KEY, ROW, sealed)?;
        let seed: &[u8; 32] = bytes
            .expose()
            .as_slice()
            .try_into()
            .map_err(|_| SealError::Invalid)?;
        Ok(ConsoleSigner(SigningKey::from_bytes(seed)))
    }

    /// What verifies its tokens.
    pub fn verifier(&self) -> ConsoleVerifier {
        ConsoleVerifier(self.0.verifying_key())
    }

    /// A token. An address that is too long is cut, which no host has.
    pub fn sign(&self, grant: &ConsoleGrant) -> String {
        let mut body = vec![VERSION, code(grant.kind)];
        body.extend_from_slice(&grant.instance.number().to_be_bytes());
        body.extend_from_slice(&grant.issued.0.to_be_bytes());
        body.extend_from_slice(&grant.expires.0.to_be_bytes());
        body.extend_from_slice(&grant.nonce);
        body.extend(grant.address.bytes().take(MAX_ADDRESS));
        let signature = self.0.sign(&[CONTEXT, &body].concat());
        body.extend_from_slice(&signature.to_bytes());
        URL_SAFE_NO_PAD.encode(body)
    }
}

/// Verifies tokens: the public half of the cloud's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleVerifier(VerifyingKey);

/// The text is not a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key as `cumulet admin console-key` prints it")]
pub struct NotAKey;

impl std::fmt::Display for ConsoleVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
    }
}

impl std::str::FromStr for ConsoleVerifier {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAKey)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| NotAKey)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| NotAKey)?;
        // Under a weak key there are signatures that fit many messages.
        if key.is_weak() {
            return Err(NotAKey);
        }
        Ok(ConsoleVerifier(key))
    }
}

impl ConsoleVerifier {
    /// What a token grants at this time.
    ///
    /// # Errors
    /// `Invalid` for what this cloud did not sign, `Expired` for what it did too long ago.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<ConsoleGrant, ConsoleRefusal> {
        let grant = self.read(token).ok_or(ConsoleRefusal::Invalid)?;
        if now >= grant.expires {
            return Err(ConsoleRefusal::Expired);
        }
        Ok(grant)
    }

    fn read(&self, token: &str) -> Option<ConsoleGrant> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE)?)?;
        let signature = Signature::from_slice(signature).ok()?;
        self.0.verify_strict(&[CONTEXT, body].concat(), &signature).ok()?;
        let (head, address) = body.split_at_checked(HEAD)?;
        let number = |at: usize| -> Option<[u8; 8]> { head.get(at..at + 8)?.try_into().ok() };
        if head[0] != VERSION {
            return None;
        }
        Some(ConsoleGrant {
            kind: ConsoleKind::ALL.into_iter().find(|kind| code(*kind) == head[1])?,
            instance: InstanceId::new(u64::from_be_bytes(number(2)?)),
            issued: Timestamp(i64::from_be_bytes(number(10)?)),
            expires: Timestamp(i64::from_be_bytes(number(18)?)),
            nonce: head[26..HEAD].try_into().ok()?,
            address: std::str::from_utf8(address).ok()?.to_owned(),
        })
    }
}

const fn code(kind: ConsoleKind) -> u8 {
    match kind {
        ConsoleKind::Serial => 1,
        ConsoleKind::Vnc => 2,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::MasterKey;

    fn signer(seed: u64) -> ConsoleSigner {
        ConsoleSigner::generate(&mut StdRng::seed_from_u64(seed))
    }

    fn grant() -> ConsoleGrant {
        ConsoleGrant {
            instance: InstanceId::new(0x0123_4567_89ab_cdef),
            kind: ConsoleKind::Serial,
            address: "10.0.0.1:6081".into(),
            issued: Timestamp(1_000),
            expires: Timestamp(601_000),
            nonce: [7; 16],
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires_and_with_its_key_alone() {
        let token = signer(1).sign(&grant());
        let verify = |seed, now| signer(seed).verifier().verify(&token, Timestamp(now));
        assert_eq!(verify(1, 1_000), Ok(grant()));
        assert_eq!(verify(1, 600_999), Ok(grant()));
        assert_eq!(verify(1, 601_000), Err(ConsoleRefusal::Expired));
        assert_eq!(verify(2, 1_000), Err(ConsoleRefusal::Invalid));
        assert_eq!(verify(2, 601_000), Err(ConsoleRefusal::Invalid));
    }

    #[test]
    fn the_key_is_sealed_and_opens_again() {
        let sealer = Sealer::new(MasterKey::from_bytes([9; 32]));
        let key = signer(1);
        let sealed = key.seal(&sealer, &mut StdRng::seed_from_u64(2)).unwrap();
        let opened = ConsoleSigner::open(&sealer, &sealed).unwrap();
        assert_eq!(opened.verifier(), key.verifier());
        let other = Sealer::new(MasterKey::from_bytes([8; 32]));
        assert!(ConsoleSigner::open(&other, &sealed).is_err());
        assert_eq!(format!("{key:?}"), "ConsoleSigner");
    }

    #[test]
    fn the_public_half_is_text_and_a_weak_one_is_refused() {
        let key = signer(1).verifier();
        assert_eq!(key.to_string().parse(), Ok(key));
        let zero = URL_SAFE_NO_PAD.encode([0; 32]);
        for wrong in ["", "abc", zero.as_str()] {
            assert_eq!(wrong.parse::<ConsoleVerifier>(), Err(NotAKey), "{wrong}");
        }
    }

    #[test]
    fn every_bit_counts() {
        let (key, token) = (signer(3).verifier(), signer(3).sign(&grant()));
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(
                key.verify(&changed, Timestamp(2_000)),
                Err(ConsoleRefusal::Invalid),
                "{bit}"
            );
        }
    }

    prop_compose! {
        fn grants()(instance in any::<u64>(), vnc in any::<bool>(), address in "[a-z0-9.:]{0,255}",
                    issued in any::<i64>(), expires in 1_i64.., nonce in any::<[u8; 16]>()) -> ConsoleGrant {
            let kind = if vnc { ConsoleKind::Vnc } else { ConsoleKind::Serial };
            ConsoleGrant {
                instance: InstanceId::new(instance), kind, address, nonce,
                issued: Timestamp(issued), expires: Timestamp(expires),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_signed_reads_back(grant in grants(), seed in any::<u64>()) {
            let token = signer(seed).sign(&grant);
            prop_assert!(token.len() <= MAX_TOKEN);
            prop_assert_eq!(signer(seed).verifier().verify(&token, Timestamp(0)), Ok(grant));
        }

        #[test]
        fn any_flipped_bit_is_refused(grant in grants(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let token = signer(5).sign(&grant);
            let mut bytes = token.clone().into_bytes();
            bytes[at.index(token.len())] ^= 1_u8 << bit;
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            prop_assert_eq!(signer(5).verifier().verify(&changed, Timestamp(0)), Err(ConsoleRefusal::Invalid));
        }

        #[test]
        fn other_text_is_refused(text in ".{0,600}") {
            prop_assert_eq!(signer(5).verifier().verify(&text, Timestamp(0)), Err(ConsoleRefusal::Invalid));
        }
    }
}

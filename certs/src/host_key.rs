//! Host keys: a host's key pair, for what the control plane tells that host alone (HPKE, RFC 9180, base mode, with
//! X25519, HKDF-SHA256 and AES-256-GCM). A host makes one when it starts and never writes it down, so that what waits in
//! a bus, or was kept of it, is of no use to anybody else, nor to that host after its end. The texts are unpadded
//! base64url: of the public key, and of the encapsulated key before the ciphertext.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hpke::{
    Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _, aead::AesGcm256, kdf::HkdfSha256,
    kem::X25519HkdfSha256, single_shot_open, single_shot_seal_with_rng,
};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::{disk_key::DiskKey, seal::SealError};

type Dh = X25519HkdfSha256;

/// What no other use of the same key pair begins with.
const INFO: &[u8] = b"cumulet disk key 1";

/// The bytes of a public key, and of an encapsulated one.
const POINT: usize = 32;

/// The longest text that is looked at: a point, a key, and the tag of 16 bytes.
const MAX_SEALED: usize = (POINT + 32 + 16_usize).div_ceil(3) * 4;

/// The secret half.
pub struct HostKey {
    private: <Dh as Kem>::PrivateKey,
    public: HostPublicKey,
}

/// The public half, as the host tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPublicKey(<Dh as Kem>::PublicKey);

/// The text is no host's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a public key of a host")]
pub struct NotAHostKey;

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostKey")
    }
}

impl HostKey {
    /// A new key pair.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut rng = rng;
        let (private, public) = Dh::gen_keypair_with_rng(&mut rng);
        HostKey {
            private,
            public: HostPublicKey(public),
        }
    }

    /// The half that others may have.
    pub const fn public(&self) -> &HostPublicKey {
        &self.public
    }

    /// The key that was sealed for this host and this volume.
    ///
    /// # Errors
    /// `Invalid`: for another host or volume, or the host has been started again since.
    pub fn open(&self, volume: &str, sealed: &str) -> Result<DiskKey, SealError> {
        if sealed.len() > MAX_SEALED {
            return Err(SealError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| SealError::Invalid)?;
        let (point, ciphertext) = bytes.split_at_checked(POINT).ok_or(SealError::Invalid)?;
        let encapsulated = <Dh as Kem>::EncappedKey::from_bytes(point).map_err(|_| SealError::Invalid)?;
        let opened = single_shot_open::<AesGcm256, HkdfSha256, Dh>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            INFO,
            ciphertext,
            volume.as_bytes(),
        );
        let opened = Zeroizing::new(opened.map_err(|_| SealError::Invalid)?);
        DiskKey::from_slice(&opened).ok_or(SealError::Invalid)
    }
}

impl HostPublicKey {
    /// The key of a volume, for this host alone.
    ///
    /// # Errors
    /// `Invalid`: the public key is one that nothing can be sealed for.
    pub fn seal<R: CryptoRng + ?Sized>(
        &self,
        rng: &mut R,
        volume: &str,
        key: &DiskKey,
    ) -> Result<String, SealError> {
        let mut rng = rng;
        let (encapsulated, ciphertext) = single_shot_seal_with_rng::<AesGcm256, HkdfSha256, Dh>(
            &OpModeS::Base,
            &self.0,
            INFO,
            key.bytes(),
            volume.as_bytes(),
            &mut rng,
        )
        .map_err(|_| SealError::Invalid)?;
        let mut bytes = encapsulated.to_bytes().to_vec();
        bytes.extend_from_slice(&ciphertext);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl std::fmt::Display for HostPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.to_bytes()))
    }
}

impl std::str::FromStr for HostPublicKey {
    type Err = NotAHostKey;

    fn from_str(text: &str) -> Result<Self, NotAHostKey> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAHostKey)?;
        let key = <Dh as Kem>::PublicKey::from_bytes(&bytes).map_err(|_| NotAHostKey)?;
        Ok(HostPublicKey(key))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn a_key_opens_on_the_host_that_it_was_sealed_for_and_for_its_volume_alone() {
        let mut rng = StdRng::seed_from_u64(1);
        let (host, other) = (HostKey::generate(&mut rng), HostKey::generate(&mut rng));
        let key = DiskKey::generate(&mut rng);
        let told: HostPublicKey = host.public().to_string().parse().unwrap();
        let sealed = told.seal(&mut rng, "vol-1", &key).unwrap();
        assert_ne!(sealed, told.seal(&mut rng, "vol-1", &key).unwrap());
        assert!(sealed.len() <= MAX_SEALED);
        assert_eq!(host.open("vol-1", &sealed), Ok(key));
        assert_eq!(host.open("vol-2", &sealed), Err(SealError::Invalid));
        assert_eq!(other.open("vol-1", &sealed), Err(SealError::Invalid));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(host.open("vol-1", &changed).is_err(), "{index}");
            assert!(host.open("vol-1", &sealed[..index]).is_err(), "{index}");
        }
        assert!(host.open("vol-1", &"A".repeat(1 << 20)).is_err());
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let point = "A".repeat(43);
        // The point of all zeros is one, and nothing can be sealed for it.
        let zero: Result<HostPublicKey, _> = point.parse();
        let mut rng = StdRng::seed_from_u64(2);
        let key = DiskKey::generate(&mut rng);
        assert!(zero.map_or(true, |zero| zero.seal(&mut rng, "vol-1", &key).is_err()));
        for text in ["", "AAAA", "?", &"A".repeat(44), &"A".repeat(64)] {
            assert_eq!(text.parse::<HostPublicKey>(), Err(NotAHostKey), "{text}");
        }
        assert_eq!(format!("{:?}", HostKey::generate(&mut rng)), "HostKey");
    }
}

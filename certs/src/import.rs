//! The parser of public keys that ImportKeyPair takes: an OpenSSH line, base64 DER, RFC 4716.

use cumulet_domain::text;
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use ssh_key::public::{KeyData, RsaPublicKey};

use crate::keypair::{PublicKey, rsa_key};

/// The longest input that is looked at. An RSA-4096 line is about 800 bytes; EC2's own limit is
/// 2048.
pub const MAX_MATERIAL: usize = 4096;

/// RSA modulus lengths that can be imported: EC2's, and 3072, which `ssh-keygen -t rsa` makes.
pub const RSA_BITS: [usize; 4] = [1024, 2048, 3072, 4096];

const RFC4716_BEGIN: &str = "---- BEGIN SSH2 PUBLIC KEY ----";
const RFC4716_END: &str = "---- END SSH2 PUBLIC KEY ----";

/// Why key material is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Longer than any key.
    #[error("the key material is longer than {MAX_MATERIAL} bytes")]
    TooLong,
    /// Not in one of the three formats, or damaged.
    #[error("Key is not in valid OpenSSH public key format")]
    Format,
    /// A private key: it must not have been sent at all.
    #[error("the key material is a private key; import the public key only")]
    PrivateKey,
    /// A well-formed key of another algorithm.
    #[error("key algorithm {0} is not supported; use rsa or ed25519")]
    Algorithm(String),
    /// RSA of another length.
    #[error("RSA keys of {0} bits are not supported; use 1024, 2048, 3072 or 4096")]
    RsaBits(usize),
}

/// Parses decoded `PublicKeyMaterial`.
pub fn import_public_key(material: &[u8]) -> Result<PublicKey, ImportError> {
    if material.len() > MAX_MATERIAL {
        return Err(ImportError::TooLong);
    }
    if material.first() == Some(&0x30) {
        // A DER sequence, not base64 (which would be text): some tools encode only once.
        if let Ok(key) = from_der(material) {
            return Ok(key);
        }
    }
    let text = std::str::from_utf8(material)
        .map_err(|_| ImportError::Format)?
        .trim();
    if text.contains("PRIVATE KEY") {
        return Err(ImportError::PrivateKey);
    }
    if let Some(rest) = text.strip_prefix(RFC4716_BEGIN) {
        return from_rfc4716(rest);
    }
    if text.contains(' ') || text.contains('\t') {
        return from_openssh(text);
    }
    from_der(&decode_base64(text)?)
}

fn from_openssh(text: &str) -> Result<PublicKey, ImportError> {
    if text.chars().any(char::is_control) {
        return Err(ImportError::Format);
    }
    let mut words = text.split_ascii_whitespace();
    let (Some(algorithm), Some(blob)) = (words.next(), words.next()) else {
        return Err(ImportError::Format);
    };
    let blob = decode_base64(blob)?;
    // The name is written twice, and both must say the same.
    match ssh_name(&blob) {
        Some(name) if name == algorithm.as_bytes() => from_blob(&blob),
        _ => Err(ImportError::Format),
    }
}

fn from_rfc4716(rest: &str) -> Result<PublicKey, ImportError> {
    let body = rest.strip_suffix(RFC4716_END).ok_or(ImportError::Format)?;
    let mut encoded = String::new();
    let mut in_header = false;
    for line in body.lines().map(str::trim_end) {
        // Headers are `Name: value`, continued over lines that end with a backslash.
        if in_header || line.contains(':') {
            in_header = line.ends_with('\\');
        } else {
            encoded.push_str(line);
        }
    }
    from_blob(&decode_base64(&encoded)?)
}

fn from_blob(blob: &[u8]) -> Result<PublicKey, ImportError> {
    let name = ssh_name(blob).ok_or(ImportError::Format)?;
    if !matches!(name, b"ssh-rsa" | b"ssh-ed25519") {
        let plausible = name.len() <= 64 && name.iter().all(|b| b.is_ascii_graphic());
        let name = String::from_utf8_lossy(name).into_owned();
        return Err(if plausible {
            ImportError::Algorithm(name)
        } else {
            ImportError::Format
        });
    }
    let key = ssh_key::PublicKey::from_bytes(blob).map_err(|_| ImportError::Format)?;
    match key.key_data() {
        KeyData::Ed25519(key) => Ok(PublicKey::from_ed25519(*key)),
        KeyData::Rsa(key) => checked_rsa(key.clone()),
        other => Err(ImportError::Algorithm(other.algorithm().as_str().to_owned())),
    }
}

fn from_der(der: &[u8]) -> Result<PublicKey, ImportError> {
    let key = rsa::RsaPublicKey::from_public_key_der(der).map_err(|_| ImportError::Format)?;
    checked_rsa(RsaPublicKey::try_from(key).map_err(|_| ImportError::Format)?)
}

fn checked_rsa(key: RsaPublicKey) -> Result<PublicKey, ImportError> {
    let modulus = key.n.as_positive_bytes().ok_or(ImportError::Format)?;
    let bits = rsa::BigUint::from_bytes_be(modulus).bits();
    if !RSA_BITS.contains(&bits) {
        return Err(ImportError::RsaBits(bits));
    }
    let checked = rsa_key(&key).map_err(|_| ImportError::Format)?;
    debug_assert_eq!(checked.n().bits(), bits);
    PublicKey::from_rsa(key).map_err(|_| ImportError::Format)
}

/// The algorithm's name: the first length-prefixed string of an SSH key blob.
fn ssh_name(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn decode_base64(text: &str) -> Result<Vec<u8>, ImportError> {
    text::base64(text).ok_or(ImportError::Format)
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;

//! HKDF-SHA256: many independent keys out of one.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Salt of every derivation of this project, so that the same master key used by another program
/// would give other sub-keys.
const SALT: &[u8] = b"cumulet/v1";

/// Derives 32 bytes for `label` and `context`. Each part is preceded by its length, so that two
/// different lists of parts never make the same `info`.
pub(crate) fn derive(ikm: &[u8], label: &str, context: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut info = Vec::with_capacity(64);
    push_part(&mut info, label.as_bytes());
    for part in context {
        push_part(&mut info, part);
    }
    let mut out = Zeroizing::new([0_u8; 32]);
    let expanded = Hkdf::<Sha256>::new(Some(SALT), ikm).expand(&info, out.as_mut_slice());
    // The only error is an output longer than 255 hashes; 32 bytes are one.
    debug_assert!(expanded.is_ok());
    out
}

fn push_part(info: &mut Vec<u8>, part: &[u8]) {
    info.extend_from_slice(&(part.len() as u64).to_be_bytes());
    info.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_contexts_separate_keys() {
        let key = [7_u8; 32];
        let mut seen = std::collections::HashSet::new();
        let contexts: [(&str, &[&[u8]]); 6] = [
            ("a", &[]),
            ("b", &[]),
            ("a", &[b""]),
            ("a", &[b"xy"]),
            ("a", &[b"x", b"y"]),
            ("ax", &[b"y"]),
        ];
        for (label, context) in contexts {
            assert!(seen.insert(*derive(&key, label, context)), "{label} {context:?}");
        }
        assert_eq!(*derive(&key, "a", &[b"xy"]), *derive(&key, "a", &[b"xy"]));
    }
}

//! The key of a user of Ceph's, out of a keyring file: a section for each user, `[client.NAME]`, with a line `key = …`. What
//! else is in it, other users' keys among it, is left alone. Hosts hand the key to guests' processes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::secret::SecretBytes;

/// Why a keyring has no key.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum KeyringError {
    /// There is no section of the user's.
    #[error("it has no section [client.{0}]")]
    NoUser(String),
    /// There is, and there is no key in it that can be read.
    #[error("its section [client.{0}] has no key")]
    NoKey(String),
}

/// The key of a user, whose name is without `client.`, out of a keyring's text.
///
/// # Errors
/// When it is not there.
pub fn ceph_key(keyring: &str, user: &str) -> Result<SecretBytes, KeyringError> {
    let begin = format!("[client.{user}]");
    let mut lines = keyring.lines().map(str::trim).skip_while(|line| *line != begin);
    lines.next().ok_or_else(|| KeyringError::NoUser(user.into()))?;
    let mut own = lines.take_while(|line| !line.starts_with('['));
    let key = own.find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "key").then(|| STANDARD.decode(value.trim()).ok())?
    });
    let key = key.filter(|key| !key.is_empty()).map(SecretBytes::new);
    key.ok_or_else(|| KeyringError::NoKey(user.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: &str = "# of the cloud\n[client.admin]\n\tkey = YWRtaW4=\n[client.cloud]\n\tcaps mon = \"profile rbd\"\n\
        \tkey = Y2xvdWQ=\n[client.empty]\n[client.broken]\n\tkey = ?\n[client.nothing]\nkey =\n";

    #[test]
    fn a_users_key_is_its_own() {
        for (user, key) in [("admin", "admin"), ("cloud", "cloud")] {
            let found = ceph_key(KEYRING, user).unwrap();
            assert!(found.ct_eq(key.as_bytes()), "{user}");
        }
        for user in ["empty", "broken", "nothing"] {
            let error = ceph_key(KEYRING, user).err();
            assert_eq!(error, Some(KeyringError::NoKey(user.into())));
        }
        for (text, user) in [(KEYRING, "nobody"), (KEYRING, "clou"), ("", "cloud")] {
            let error = ceph_key(text, user).err();
            assert_eq!(error, Some(KeyringError::NoUser(user.into())));
        }
    }
}

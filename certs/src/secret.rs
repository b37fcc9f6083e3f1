//! A wrapper for values that must never be printed.
//!
//! There is no `Display`, no `Serialize` and no `Deref`: the only way to the value is
//! [`Secret::expose`], which is easy to search for. The value is overwritten when it is dropped.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A value that prints as `[redacted]` and is wiped when dropped.
pub struct Secret<T: Zeroize>(T);

/// Secret text: a secret access key, a PEM private key.
pub type SecretString = Secret<String>;

/// Secret bytes of any length.
pub type SecretBytes = Secret<Vec<u8>>;

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of a value that must not be printed.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Don't let it reach a log line or an error message.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Compares in time that depends on the lengths only.
    pub fn ct_eq(&self, other: &[u8]) -> bool {
        self.0.as_ref().ct_eq(other).into()
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<String> for SecretString {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl From<&str> for SecretString {
    fn from(value: &str) -> Self {
        Self::new(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        #[derive(Debug)]
        struct Outer {
            #[allow(dead_code)]
            key: SecretString,
        }
        let text = format!("{:?}", Outer { key: "canary".into() });
        assert_eq!(text, "Outer { key: [redacted] }");
        assert_eq!(
            format!("{:#?}", SecretBytes::new(b"canary".to_vec())),
            "[redacted]"
        );
    }

    #[test]
    fn compares_values() {
        let secret = SecretString::from("abc");
        assert!(secret.ct_eq(b"abc"));
        assert!(!secret.ct_eq(b"abd"));
        assert!(!secret.ct_eq(b"abcd"));
        assert!(secret.clone().ct_eq(b"abc"));
    }
}

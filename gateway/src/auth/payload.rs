//! A body that is yet to come: what the signed head states of it, and the check of what comes against that.
//!
//! Its pieces are hashed as they come, so that nobody has to hold them; the verdict is there at their end.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::AuthError;
use super::sigv4::unhex32;

/// What `X-Amz-Content-SHA256` states of a body that no signature covers.
pub(super) const UNSIGNED: &[u8] = b"UNSIGNED-PAYLOAD";

/// What is stated is not what came.
pub(super) const DIFFERS: AuthError =
    AuthError::Payload("the X-Amz-Content-SHA256 header is not the hash of the body");

/// A body as far as it has come, and what its head states of it. Only the verifier makes them.
pub struct Payload(Stated);

enum Stated {
    /// Its hash; and that of what has come so far.
    Hash([u8; 32], Sha256),
    /// Nothing: any body will do.
    Nothing,
}

impl Payload {
    /// One of which the head states this.
    ///
    /// # Errors
    /// [`AuthError::Payload`] where that is no hash.
    pub(super) fn stated(value: &[u8]) -> Result<Self, AuthError> {
        if value == UNSIGNED {
            return Ok(Payload(Stated::Nothing));
        }
        let hash = unhex32(value).ok_or(AuthError::Payload(
            "the X-Amz-Content-SHA256 header must state the hash of the body for this service",
        ))?;
        Ok(Payload(Stated::Hash(hash, Sha256::new())))
    }

    /// The next bytes of it have come.
    pub fn update(&mut self, piece: &[u8]) {
        if let Stated::Hash(_, come) = &mut self.0 {
            come.update(piece);
        }
    }

    /// Whether what has come so far is the body that the head states; to be asked at its end.
    ///
    /// # Errors
    /// [`AuthError::Payload`] where it is another one.
    pub fn check(&self) -> Result<(), AuthError> {
        let Stated::Hash(stated, come) = &self.0 else {
            return Ok(());
        };
        let computed: [u8; 32] = come.clone().finalize().into();
        if computed[..].ct_eq(&stated[..]).into() {
            Ok(())
        } else {
            Err(DIFFERS)
        }
    }
}

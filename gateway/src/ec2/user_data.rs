//! User data of a request: base64 text in some members, bytes in others, and the same whichever it was.

use cumulet_backend::api::instances::UserData;
use cumulet_domain::{Error, text};

use crate::fault::Fault;

/// Reads base64 text; empty text stands for none.
///
/// # Errors
/// `MalformedUserData`; `InvalidParameter` when it is too long.
pub(crate) fn from_base64(given: &str) -> Result<Option<UserData>, Fault> {
    let bytes = text::base64(given).ok_or_else(|| Error::MalformedUserData {
        reason: "Invalid BASE64 encoding of user data".into(),
    })?;
    Ok(UserData::new(bytes)?)
}

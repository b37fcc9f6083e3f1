//! User data of a request: base64 text, in whichever member it comes. What is no base64 is one mistake with one
//! code everywhere, so the codec leaves it to this function even where the model has bytes
//! (`retyped` in `models/patches.toml`).

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

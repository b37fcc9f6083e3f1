//! User data as a client has sent it: at most 16 KiB of anything. It doesn't print, and is sealed where it is
//! kept.

use cumulet_certs::SecretBytes;
use cumulet_core::RequestContext;
use cumulet_domain::{Error, Result, account::Principal};
use cumulet_store as store;
use cumulet_store::authority::Permission;

use crate::instances::InstanceView;

/// Bytes at the most (EC2 user guide, "User data").
const MAX_BYTES: usize = 16 * 1024;

/// User data, one byte of it at least.
#[derive(Clone, Debug)]
pub struct UserData(SecretBytes);

impl UserData {
    /// Takes the bytes that the request's base64 stood for; nothing stands for none.
    ///
    /// # Errors
    /// `InvalidParameter` when they are too many.
    pub fn new(bytes: Vec<u8>) -> Result<Option<Self>> {
        if bytes.len() > MAX_BYTES {
            let reason = format!("user data is limited to {MAX_BYTES} bytes");
            return Err(Error::invalid("UserData", "", reason));
        }
        Ok(Some(bytes)
            .filter(|bytes| !bytes.is_empty())
            .map(|bytes| UserData(SecretBytes::new(bytes))))
    }

    /// The bytes.
    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

impl PartialEq for UserData {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(other.expose())
    }
}

impl Eq for UserData {}

/// An instance's user data.
///
/// # Errors
/// `Unauthorized`; `Internal` when the master key is not the one that sealed it.
pub fn user_data(cx: &RequestContext, who: &Principal, view: &InstanceView) -> Result<Option<SecretBytes>> {
    cx.authorise(who, Permission::DESCRIBE_INSTANCE_ATTRIBUTE)?;
    store::user_data::open(&cx.sealer, &view.row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_checked_and_nothing_is_none() {
        for (size, kept) in [
            (0, Ok(false)),
            (1, Ok(true)),
            (MAX_BYTES, Ok(true)),
            (MAX_BYTES + 1, Err(())),
        ] {
            let made = UserData::new(vec![b'x'; size]);
            assert_eq!(made.map(|data| data.is_some()).map_err(drop), kept, "{size}");
        }
        let data = UserData::new(b"canary".to_vec()).unwrap();
        assert_eq!(format!("{data:?}"), "Some(UserData([redacted]))");
    }
}

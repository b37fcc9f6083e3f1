//! Encryption of new volumes where their request doesn't ask for it: none, as long as volumes can't be encrypted at
//! all. So an account finds it off and can turn it off; what would turn it on is not served.

use cumulet_core::RequestContext;
use cumulet_domain::{Result, account::Principal};
use cumulet_store::{Invalidates, authority::Permission};

use crate::boxed;

/// Whether an account's new volumes are encrypted without having been asked for so.
///
/// # Errors
/// `Unauthorized`.
#[boxed]
pub async fn is_by_default(cx: &RequestContext, who: &Principal) -> Result<bool> {
    cx.authorise(who, Permission::GET_EBS_ENCRYPTION_BY_DEFAULT)?;
    Ok(false)
}

/// From now on they are not, as before.
///
/// # Errors
/// `Unauthorized`.
#[boxed]
pub async fn never_by_default(cx: &RequestContext, who: &Principal) -> Result<bool> {
    cx.authorise(who, Permission::DISABLE_EBS_ENCRYPTION_BY_DEFAULT)?;
    // It changes nothing, and is written down as a change that somebody asked for.
    let write = cx
        .store
        .write_with(Invalidates::Nothing, |_| Box::pin(async { Ok(false) }));
    write.await
}

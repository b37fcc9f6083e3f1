//! Encryption of an account's new volumes where their request doesn't ask for it, and the key that is for: the account's
//! only one, so that no other can be made the default.

use cumulet_core::RequestContext;
use cumulet_domain::{Result, account::Principal};
use cumulet_store::{Invalidates, authority::Permission, encryption};

use super::key_of;
use crate::boxed;

/// Whether an account's new volumes are encrypted without having been asked for so.
///
/// # Errors
/// `Unauthorized`.
#[boxed]
pub async fn is_by_default(cx: &RequestContext, who: &Principal) -> Result<bool> {
    cx.authorise(who, Permission::GET_EBS_ENCRYPTION_BY_DEFAULT)?;
    encryption::by_default(cx.store.read(), who.account).await
}

/// From now on they are, or they are not; those that are there stay as they are.
///
/// # Errors
/// `Unauthorized`.
#[boxed]
pub async fn set_by_default(cx: &RequestContext, who: &Principal, on: bool) -> Result<()> {
    cx.authorise(
        who,
        match on {
            true => Permission::ENABLE_EBS_ENCRYPTION_BY_DEFAULT,
            false => Permission::DISABLE_EBS_ENCRYPTION_BY_DEFAULT,
        },
    )?;
    let account = who.account;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move { encryption::set_by_default(txn, account, on).await })
    });
    write.await
}

/// The key of what is encrypted without naming one: its ARN.
///
/// # Errors
/// `Unauthorized`.
#[boxed]
pub async fn default_key(cx: &RequestContext, who: &Principal) -> Result<String> {
    cx.authorise(who, Permission::GET_EBS_DEFAULT_KMS_KEY_ID)?;
    Ok(key_of(cx, who.account).arn())
}

/// Makes this key that one: its ARN.
///
/// # Errors
/// `InvalidParameter` for every other than it is already; `Unauthorized`.
#[boxed]
pub async fn modify_default_key(cx: &RequestContext, who: &Principal, key: &str) -> Result<String> {
    cx.authorise(who, Permission::MODIFY_EBS_DEFAULT_KMS_KEY_ID)?;
    let own = key_of(cx, who.account);
    own.check("KmsKeyId", key)?;
    stays(cx, own.arn()).await
}

/// Makes the account's own key that one: its ARN.
///
/// # Errors
/// `Unauthorized`.
#[boxed]
pub async fn reset_default_key(cx: &RequestContext, who: &Principal) -> Result<String> {
    cx.authorise(who, Permission::RESET_EBS_DEFAULT_KMS_KEY_ID)?;
    stays(cx, key_of(cx, who.account).arn()).await
}

/// It changes nothing, and is written down as a change that somebody asked for.
async fn stays(cx: &RequestContext, arn: String) -> Result<String> {
    let write = cx
        .store
        .write_with(Invalidates::Nothing, |_| Box::pin(async { Ok(()) }));
    write.await.map(|()| arn)
}

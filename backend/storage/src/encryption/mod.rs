//! Encryption at rest: the data keys of new rows, by the domain's rule (`cumulet_domain::volume::DataKey`), what accounts
//! want of their new volumes, and the one key that an account has by name.

mod account_key;
mod default;

use cumulet_core::RequestContext;
use cumulet_domain::{
    Error, Result,
    account::AccountId,
    volume::{DataKey, EncryptionAsked, StaysEncrypted, data_key},
};
use cumulet_store::{
    disk_keys,
    entity::{secret_text::SecretText, snapshot, volume},
};

pub use account_key::AccountKey;
pub use default::{default_key, is_by_default, modify_default_key, reset_default_key, set_by_default};

/// The key that an account of this cloud has.
pub fn key_of(cx: &RequestContext, account: AccountId) -> AccountKey {
    AccountKey::new(&cx.config.region, account)
}

/// The data key of a new volume, sealed for it: none, one of its own, or that of the snapshot that it is made of.
///
/// # Errors
/// `Internal` where the snapshot's row is damaged.
pub fn of_volume(
    cx: &RequestContext,
    key: DataKey,
    source: Option<&snapshot::Model>,
    id: impl ToString,
) -> Result<Option<SecretText>> {
    match (key, source) {
        (DataKey::None, _) => Ok(None),
        (DataKey::Fresh, _) => disk_keys::fresh(&cx.rng, &cx.sealer, id).map(Some),
        (DataKey::Sources, Some(row)) => of_copy(cx, row, id),
        (DataKey::Sources, None) => Err(Error::Internal("a volume of nothing has nothing's key".into())),
    }
}

/// What the data key of a copy of a snapshot is.
///
/// # Errors
/// `InvalidParameter` where an encrypted one was to be made plain.
pub fn key_of_copy(asked: &EncryptionAsked, by_default: bool, source_encrypted: bool) -> Result<DataKey> {
    data_key(asked.encrypted, by_default, source_encrypted).map_err(|StaysEncrypted| {
        let reason = "a copy of an encrypted snapshot is encrypted";
        Error::invalid("Encrypted", "false", reason)
    })
}

/// The data key of a snapshot, sealed for what is made of that and is as encrypted as it.
///
/// # Errors
/// `Internal` where its row is damaged.
pub fn of_copy(
    cx: &RequestContext,
    source: &snapshot::Model,
    id: impl ToString,
) -> Result<Option<SecretText>> {
    let of = (source.id.0, source.encrypted.0);
    inherited(cx, of, source.data_key.as_ref(), id)
}

/// The data key of a volume, sealed for a snapshot of it.
///
/// # Errors
/// `Internal` where its row is damaged.
pub fn of_snapshot(
    cx: &RequestContext,
    disk: &volume::Model,
    id: impl ToString,
) -> Result<Option<SecretText>> {
    inherited(cx, (disk.id.0, disk.encrypted.0), disk.data_key.as_ref(), id)
}

fn inherited(
    cx: &RequestContext,
    (from, encrypted): (impl ToString, bool),
    kept: Option<&SecretText>,
    id: impl ToString,
) -> Result<Option<SecretText>> {
    match (encrypted, kept) {
        (false, None) => Ok(None),
        (true, Some(kept)) => disk_keys::inherited(&cx.rng, &cx.sealer, (from, kept), id).map(Some),
        _ => {
            let of = from.to_string();
            Err(Error::Internal(format!(
                "{of} is encrypted: {encrypted}, and its data key says otherwise"
            )))
        }
    }
}

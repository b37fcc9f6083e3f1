//! Access keys: their secrets are sealed with the master key, bound to the key's id.

use cumulet_certs::{
    AccessKeyKind, Purpose, Sealer, SecretString, generate_access_key_id, generate_secret_key,
};
use cumulet_domain::{Error, Result, account::AccountId, rng::SharedRng, time::Timestamp};
use cumulet_store::{
    entity::{access_key, columns::Flag, user},
    failed, rows, settings,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr};

use crate::{
    accounts::{CredentialCache, Parts, find_user},
    boxed,
};

/// A new access key; the secret is shown this once.
#[derive(Clone, Debug)]
pub struct NewAccessKey {
    /// `AKIA…`.
    pub id: String,
    /// 40 characters.
    pub secret: SecretString,
}

/// An access key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKeyView {
    /// `AKIA…`.
    pub id: String,
    /// The user's name.
    pub user_name: String,
    /// May it sign?
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Makes an access key for a user. For the operator.
///
/// # Errors
/// `InvalidParameter` when there is no such user.
#[boxed]
pub async fn create_access_key(parts: &Parts, account: AccountId, user_name: &str) -> Result<NewAccessKey> {
    let user = find_user(parts.store.read(), account, user_name).await?;
    let (rng, sealer, now) = (parts.rng.clone(), parts.sealer.clone(), parts.clock.now());
    let made = parts
        .store
        .write(move |txn| Box::pin(async move { insert_access_key(txn, &rng, &sealer, &user, now).await }));
    made.await
}

/// Adds an access key's row.
#[boxed]
pub async fn insert_access_key(
    txn: &DatabaseTransaction,
    rng: &SharedRng,
    sealer: &Sealer,
    user: &user::Model,
    now: Timestamp,
) -> Result<NewAccessKey> {
    let (id, secret, sealed) = rng.with(|rng| {
        let id = generate_access_key_id(rng, AccessKeyKind::LongTerm);
        let secret = generate_secret_key(rng);
        let sealed = sealer.seal(
            rng,
            Purpose::ACCESS_KEY,
            id.as_bytes(),
            secret.expose().as_bytes(),
        );
        (id, secret, sealed)
    });
    let row = access_key::Model {
        id: id.clone(),
        user_id: user.id.clone(),
        account: user.account,
        secret: sealed.map_err(|error| Error::internal(&error))?.into(),
        enabled: Flag(true),
        created_at: now.0,
    };
    let insert = access_key::Entity::insert(access_key::ActiveModel::from(row));
    insert.exec_without_returning(txn).await.map_err(failed)?;
    changed(txn, rng).await?;
    Ok(NewAccessKey { id, secret })
}

/// Tells every process that credentials have changed.
async fn changed(txn: &DatabaseTransaction, rng: &SharedRng) -> Result<()> {
    use rand::Rng as _;
    let mark = format!("{:016x}", rng.with(|rng| rng.next_u64()));
    settings::put(txn, settings::CREDENTIALS, &mark).await
}

/// The access keys of an account. For the operator.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list_access_keys(parts: &Parts, account: AccountId) -> Result<Vec<AccessKeyView>> {
    let users = super::list_users(parts, account).await?;
    let query = access_key::Entity::find()
        .filter(access_key::Column::Account.eq(account.to_db()))
        .order_by_asc(access_key::Column::Id);
    let keys = rows::all(query, parts.store.read()).await?;
    let name = |id: &str| {
        users
            .iter()
            .find(|user| user.id == id)
            .map(|user| user.name.clone())
    };
    Ok(keys
        .into_iter()
        .map(|key| AccessKeyView {
            user_name: name(&key.user_id).unwrap_or_default(),
            id: key.id,
            enabled: key.enabled.0,
            created_at: Timestamp(key.created_at),
        })
        .collect())
}

/// Lets a key sign, or not any more. For the operator.
///
/// # Errors
/// `InvalidParameter` when there is no such key.
#[boxed]
pub async fn set_access_key_enabled(
    parts: &Parts,
    cache: &CredentialCache,
    id: &str,
    enabled: bool,
) -> Result<()> {
    let (rng, key) = (parts.rng.clone(), id.to_owned());
    let write = parts.store.write(move |txn| {
        Box::pin(async move {
            let update = access_key::Entity::update_many()
                .col_expr(access_key::Column::Enabled, Expr::value(i64::from(enabled)))
                .filter(access_key::Column::Id.eq(&key));
            let found = update.exec(txn).await.map_err(failed)?.rows_affected;
            changed(txn, &rng).await?;
            one(found, &key)
        })
    });
    finish(cache, write.await)
}

/// Removes a key. For the operator.
///
/// # Errors
/// `InvalidParameter` when there is no such key.
#[boxed]
pub async fn delete_access_key(parts: &Parts, cache: &CredentialCache, id: &str) -> Result<()> {
    let (rng, key) = (parts.rng.clone(), id.to_owned());
    let write = parts.store.write(move |txn| {
        Box::pin(async move {
            let delete = access_key::Entity::delete_by_id(&key).exec(txn).await;
            let found = delete.map_err(failed)?.rows_affected;
            changed(txn, &rng).await?;
            one(found, &key)
        })
    });
    finish(cache, write.await)
}

fn one(found: u64, key: &str) -> Result<()> {
    if found == 0 {
        return Err(Error::invalid("AccessKeyId", key, "there is no such access key"));
    }
    Ok(())
}

fn finish(cache: &CredentialCache, result: Result<()>) -> Result<()> {
    cache.clear();
    result
}

/// The secret of a key, for `cumulet env`. For the operator.
///
/// # Errors
/// `InvalidParameter` when there is no such key; `Internal` when the master key is not the one that
/// sealed it.
#[boxed]
pub async fn access_key_secret(parts: &Parts, id: &str) -> Result<SecretString> {
    let row = rows::one(access_key::Entity::find_by_id(id), parts.store.read()).await?;
    let row = row.ok_or_else(|| Error::invalid("AccessKeyId", id, "there is no such access key"))?;
    open(&parts.sealer, &row)
}

/// Opens a row's secret.
/// Whether a key's secret was sealed by this sealer.
pub fn is_sealed_by(sealer: &Sealer, row: &access_key::Model) -> bool {
    open(sealer, row).is_ok()
}

pub(super) fn open(sealer: &Sealer, row: &access_key::Model) -> Result<SecretString> {
    let bytes = sealer.open(Purpose::ACCESS_KEY, row.id.as_bytes(), row.secret.expose());
    let bytes = bytes.map_err(|error| Error::internal(&error))?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|error| Error::internal(&error))?;
    Ok(SecretString::from(text))
}

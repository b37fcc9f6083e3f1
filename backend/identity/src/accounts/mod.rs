//! Accounts, users and access keys. The operator's commands change them; a door asks them for the signer of a
//! request.

mod credentials;
mod keys;

use cumulet_core::{Parts, RequestContext, quota::load};
use cumulet_domain::{
    Error, Result,
    account::{AccountId, Principal, Role},
};
use cumulet_network::default_network as network;
use cumulet_store::{
    authority::Permission,
    entity::{
        account,
        columns::{Amount, Flag, Named, Owner},
        user,
    },
    failed, is_taken, rows,
};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder};

use crate::boxed;

pub use credentials::{Credential, CredentialCache, credential};
pub use keys::{
    AccessKeyView, NewAccessKey, access_key_secret, create_access_key, delete_access_key, insert_access_key,
    is_sealed_by, list_access_keys, set_access_key_enabled,
};

/// Quotas of a new account.
pub const INSTANCES_MAX: u64 = 10_000;
/// See [`INSTANCES_MAX`].
pub const VCPUS_MAX: u64 = 100_000;

/// A user with its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserView {
    /// The user.
    pub row: user::Model,
    /// Its account.
    pub account: AccountId,
}

/// The caller's account with its quotas.
///
/// # Errors
/// `Unauthorized`; those of the database.
#[boxed]
pub async fn limits(cx: &RequestContext, who: &Principal) -> Result<account::Model> {
    cx.authorise(who, Permission::DESCRIBE_ACCOUNT_ATTRIBUTES)?;
    load(cx.store.read(), who.account).await
}

/// A user of the caller's account; the caller itself when no name is given.
///
/// # Errors
/// `InvalidParameter` when there is no such user.
#[boxed]
pub async fn get_user(cx: &RequestContext, who: &Principal, name: Option<&str>) -> Result<UserView> {
    cx.authorise(who, Permission::GET_USER)?;
    let name = name.unwrap_or(&who.user_name);
    let row = find_user(cx.store.read(), who.account, name).await?;
    Ok(UserView {
        row,
        account: who.account,
    })
}

/// Makes an account with a default network. For the operator: no principal is asked.
///
/// # Errors
/// `InvalidParameter` for a bad or taken name.
#[boxed]
pub async fn create_account(parts: &Parts, name: &str, zones: &[String]) -> Result<account::Model> {
    let (rng, now) = (parts.rng.clone(), parts.clock.now());
    let (name, zones) = (name.to_owned(), zones.to_vec());
    check_name("AccountName", &name)?;
    parts
        .store
        .write(move |txn| {
            Box::pin(async move {
                let id = rng.with(|rng| AccountId::random(rng));
                let row = insert_account(txn, id, &name, now.0).await?;
                network::create(txn, &rng, now, id, &zones).await?;
                Ok(row)
            })
        })
        .await
}

/// Every account. For the operator.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list_accounts(parts: &Parts) -> Result<Vec<account::Model>> {
    let query = account::Entity::find().order_by_asc(account::Column::Id);
    rows::all(query, parts.store.read()).await
}

/// Makes a user. For the operator.
///
/// # Errors
/// `InvalidParameter` for a bad or taken name, or an account that is not there.
#[boxed]
pub async fn create_user(parts: &Parts, account: AccountId, name: &str, role: Role) -> Result<user::Model> {
    check_name("UserName", name)?;
    let (rng, now, name) = (parts.rng.clone(), parts.clock.now(), name.to_owned());
    parts
        .store
        .write(move |txn| {
            Box::pin(async move {
                load(txn, account).await?;
                let id = rng.with(user_id);
                insert_user(txn, account, id, &name, role, now.0).await
            })
        })
        .await
}

/// The users of an account. For the operator.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list_users(parts: &Parts, account: AccountId) -> Result<Vec<user::Model>> {
    let query = user::Entity::find()
        .filter(user::Column::Account.eq(account.to_db()))
        .order_by_asc(user::Column::Name);
    rows::all(query, parts.store.read()).await
}

/// A user's unique id: `AIDA` and 17 characters, as IAM's.
pub fn user_id(rng: &mut rand::rngs::StdRng) -> String {
    use rand::RngExt as _;
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let tail = (0..17).map(|_| char::from(BASE32[rng.random_range(0..32_usize)]));
    "AIDA".chars().chain(tail).collect()
}

/// IAM's rule for names of users.
fn check_name(parameter: &str, name: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fine) {
        let reason = "a name has 1 to 64 letters, digits and +=,.@_-";
        return Err(Error::invalid(parameter, name, reason));
    }
    Ok(())
}

pub(super) async fn find_user(
    conn: &impl ConnectionTrait,
    account: AccountId,
    name: &str,
) -> Result<user::Model> {
    let query = user::Entity::find()
        .filter(user::Column::Account.eq(account.to_db()))
        .filter(user::Column::Name.eq(name));
    let row = rows::one(query, conn).await?;
    row.ok_or_else(|| Error::invalid("UserName", name, "there is no such user"))
}

/// Adds an account's row.
#[boxed]
pub async fn insert_account(
    txn: &DatabaseTransaction,
    id: AccountId,
    name: &str,
    now: i64,
) -> Result<account::Model> {
    let row = account::Model {
        id: Owner(id),
        name: name.into(),
        instances_used: 0,
        instances_max: Amount(INSTANCES_MAX),
        vcpus_used: 0,
        vcpus_max: Amount(VCPUS_MAX),
        created_at: now,
        encrypts: None,
    };
    let insert = account::Entity::insert(account::ActiveModel::from(row.clone()));
    insert.exec_without_returning(txn).await.map_err(|error| {
        if is_taken(&error) {
            Error::invalid("AccountName", name, "the name is taken")
        } else {
            failed(error)
        }
    })?;
    Ok(row)
}

/// Adds a user's row.
#[boxed]
pub async fn insert_user(
    txn: &DatabaseTransaction,
    account: AccountId,
    id: String,
    name: &str,
    role: Role,
    now: i64,
) -> Result<user::Model> {
    let row = user::Model {
        id,
        account: Owner(account),
        name: name.into(),
        role: Named(role),
        enabled: Flag(true),
        created_at: now,
    };
    let insert = user::Entity::insert(user::ActiveModel::from(row.clone()));
    insert.exec_without_returning(txn).await.map_err(|error| {
        if is_taken(&error) {
            Error::invalid("UserName", name, "the name is taken")
        } else {
            failed(error)
        }
    })?;
    Ok(row)
}

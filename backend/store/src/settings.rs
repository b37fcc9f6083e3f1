//! Settings of the cloud that outlive a restart.

use cumulet_domain::Result;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, sea_query::Expr};

use super::failed;
use crate::entity::setting;

/// The cloud's own name.
pub const CLOUD_ID: &str = "cloud_id";
/// The block that public addresses come from.
pub const PUBLIC_POOL: &str = "public_pool";
/// The account of the first start.
pub const FIRST_ACCOUNT: &str = "first_account";
/// The access key of the first start.
pub const FIRST_ACCESS_KEY: &str = "first_access_key";
/// What only the cloud's master key opens.
pub const MASTER_KEY_PROOF: &str = "master_key_proof";
/// What signs tokens for consoles, sealed.
pub const CONSOLE_KEY: &str = "console_key";
/// Where the console role of this database's own process is found.
pub const CONSOLE_ENDPOINT: &str = "console_endpoint";
/// The pool of Ceph's that volumes are in: the cluster's id and the pool's name, `FSID/POOL`.
pub const RBD_POOL: &str = "rbd_pool";
/// Changes with every change of users and access keys, by whichever process.
pub const CREDENTIALS: &str = "credentials";

/// A setting's value, if it is set.
///
/// # Errors
/// Those of the database.
pub async fn get(conn: &impl ConnectionTrait, name: &str) -> Result<Option<String>> {
    let row = setting::Entity::find_by_id(name)
        .one(conn)
        .await
        .map_err(failed)?;
    Ok(row.map(|row| row.value.expose().to_owned()))
}

/// Sets a setting.
///
/// # Errors
/// Those of the database.
pub async fn put(txn: &impl ConnectionTrait, name: &str, value: &str) -> Result<()> {
    let update = setting::Entity::update_many()
        .col_expr(setting::Column::Value, Expr::value(value))
        .filter(setting::Column::Name.eq(name));
    if update.exec(txn).await.map_err(failed)?.rows_affected == 0 {
        let row = setting::ActiveModel {
            name: Set(name.into()),
            value: Set(value.into()),
        };
        let insert = setting::Entity::insert(row).exec_without_returning(txn).await;
        insert.map_err(failed)?;
    }
    Ok(())
}

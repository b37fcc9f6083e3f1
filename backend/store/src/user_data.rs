//! User data at rest: sealed with the master key and bound to its instance. It is opened for the attribute
//! and for the instance's host, and nowhere else.

use cumulet_certs::{Purpose, SealError, Sealer, SecretBytes};
use cumulet_domain::{
    Error, Result,
    id::{InstanceId, marker::Instance},
    rng::SharedRng,
    text,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect, Statement, sea_query::Expr,
};

use super::{Store, failed};
use crate::{
    boxed,
    entity::{columns::Key, instance, secret_text::SecretText},
    rows,
};

/// Rows that are sealed in one transaction.
const BATCH: u64 = 100;

fn bound_to(instance: InstanceId) -> String {
    instance.to_string()
}

/// Seals an instance's user data.
///
/// # Errors
/// `Internal` when it is longer than anything that is sealed.
pub fn seal(rng: &SharedRng, sealer: &Sealer, instance: InstanceId, data: &[u8]) -> Result<SecretText> {
    let aad = bound_to(instance);
    let sealed = rng.with(|rng| sealer.seal(rng, Purpose::USER_DATA, aad.as_bytes(), data));
    sealed
        .map(SecretText::from)
        .map_err(|error| Error::internal(&error))
}

/// An instance's user data.
///
/// # Errors
/// `Internal` when the row is damaged, or the master key is not the one that sealed it.
pub fn open(sealer: &Sealer, row: &instance::Model) -> Result<Option<SecretBytes>> {
    if let Some(sealed) = &row.sealed_user_data {
        let aad = bound_to(row.id.0);
        let opened = sealer.open(Purpose::USER_DATA, aad.as_bytes(), sealed.expose());
        return opened.map(Some).map_err(|error| Error::internal(&error));
    }
    // From a program that did not seal, which may still run beside this one.
    row.user_data.as_ref().map(plain).transpose()
}

fn plain(kept: &SecretText) -> Result<SecretBytes> {
    let bytes = text::base64(kept.expose()).map(SecretBytes::new);
    bytes.ok_or_else(|| Error::internal(&SealError::Invalid))
}

/// Seals what an earlier program has kept in the clear, and answers how many rows that were. Each start calls
/// it; it may die at any point and be called by several at once.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn seal_kept(store: &Store, rng: &SharedRng, sealer: &Sealer) -> Result<u64> {
    let (mut after, mut count) = (i64::MIN, 0);
    loop {
        let (rng, sealer) = (rng.clone(), sealer.clone());
        let write =
            store.write(move |txn| Box::pin(async move { seal_batch(txn, &rng, &sealer, after).await }));
        let (sealed, last) = write.await?;
        count += sealed;
        match last {
            Some(last) => after = last,
            None => return Ok(count),
        }
    }
}

/// What is kept in the clear: whatever else of its row is damaged, it is sealed, and a start goes on.
#[derive(FromQueryResult)]
struct Kept {
    id: Key<Instance>,
    user_data: Option<SecretText>,
}

/// Seals the first rows after one; the last of them, if there was any.
async fn seal_batch(
    txn: &DatabaseTransaction,
    rng: &SharedRng,
    sealer: &Sealer,
    after: i64,
) -> Result<(u64, Option<i64>)> {
    use instance::Column as C;
    let kept = instance::Entity::find()
        .select_only()
        .columns([C::Id, C::UserData])
        .filter(C::Id.gt(after))
        .filter(C::UserData.is_not_null())
        .order_by_asc(C::Id)
        .limit(BATCH);
    let rows: Vec<Kept> = rows::selected(kept, txn).await?;
    let Some(last) = rows.last().map(|row| row.id.to_db()) else {
        return Ok((0, None));
    };
    overwrite(txn, true).await?;
    let mut sealed = 0;
    for row in rows {
        let Some(kept) = &row.user_data else { continue };
        let Ok(data) = plain(kept) else {
            let instance = row.id.0;
            tracing::error!(%instance, "its user data is damaged and was not sealed");
            continue;
        };
        let text = seal(rng, sealer, row.id.0, data.expose())?;
        // Unless somebody has changed it in the meantime, who has sealed it then.
        let update = instance::Entity::update_many()
            .col_expr(C::SealedUserData, Expr::value(text))
            .col_expr(C::UserData, Expr::value(Option::<String>::None))
            .filter(C::Id.eq(row.id))
            .filter(C::UserData.eq(kept.clone()));
        sealed += update.exec(txn).await.map_err(failed)?.rows_affected;
    }
    overwrite(txn, false).await?;
    Ok((sealed, Some(last)))
}

/// Whether SQLite overwrites what is deleted in its file with zeros.
async fn overwrite(txn: &DatabaseTransaction, on: bool) -> Result<()> {
    if txn.get_database_backend() != DbBackend::Sqlite {
        return Ok(());
    }
    let pragma = if on {
        "PRAGMA secure_delete = ON"
    } else {
        "PRAGMA secure_delete = OFF"
    };
    let set = Statement::from_string(DbBackend::Sqlite, pragma);
    txn.query_one_raw(set).await.map(drop).map_err(failed)
}

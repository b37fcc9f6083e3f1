//! Encryption at rest in rows: what an account wants of its new volumes, and what must hold of the rows of volumes and
//! snapshots: one that is encrypted has a data key, one that is not has none, and those of one line have the same.

use std::collections::HashMap;

use cumulet_domain::{
    Result,
    account::AccountId,
    id::{SnapshotId, VolumeId},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect as _, sea_query::Expr};

use super::{column, disk_keys, failed, rows};
use crate::entity::{account, columns::Flag, secret_text::SecretText, snapshot, volume};

/// Whether an account's new volumes are encrypted without having been asked for so.
///
/// # Errors
/// Those of the database; `Internal` where its row is damaged.
pub async fn by_default(conn: &impl ConnectionTrait, account: AccountId) -> Result<bool> {
    // The whole row: one that is damaged says nothing, and is not taken for one that wants none.
    let row = account::Entity::find().filter(account::Column::Id.eq(account.to_db()));
    let row = rows::one(row, conn).await?;
    Ok(row.is_some_and(|row| row.encrypts == Some(Flag(true))))
}

/// From now on they are, or they are not.
///
/// # Errors
/// Those of the database.
pub async fn set_by_default(txn: &impl ConnectionTrait, account: AccountId, on: bool) -> Result<()> {
    let update = account::Entity::update_many()
        .col_expr(account::Column::Encrypts, Expr::value(Flag(on)))
        .filter(account::Column::Id.eq(account.to_db()));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// The volumes and snapshots of which that does not hold, in words; and those that have another key than their line.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn findings(conn: &impl ConnectionTrait) -> Result<Vec<String>> {
    let mut found = strangers(conn).await?;
    for (encrypted, what) in [
        (true, "is encrypted and has no data key"),
        (false, "is not encrypted and has a data key"),
    ] {
        let volumes = volume::Entity::find()
            .select_only()
            .column(volume::Column::Id)
            .filter(volume::Column::Encrypted.eq(Flag(encrypted)))
            .filter(match encrypted {
                true => volume::Column::DataKey.is_null(),
                false => volume::Column::DataKey.is_not_null(),
            });
        let snapshots = snapshot::Entity::find()
            .select_only()
            .column(snapshot::Column::Id)
            .filter(snapshot::Column::Encrypted.eq(Flag(encrypted)))
            .filter(match encrypted {
                true => snapshot::Column::DataKey.is_null(),
                false => snapshot::Column::DataKey.is_not_null(),
            });
        let volumes: Vec<i64> = column(volumes, conn).await?;
        let volumes = volumes.into_iter().map(VolumeId::from_db);
        found.extend(volumes.map(|id| format!("{id} {what}")));
        let snapshots: Vec<i64> = column(snapshots, conn).await?;
        let snapshots = snapshots.into_iter().map(SnapshotId::from_db);
        found.extend(snapshots.map(|id| format!("{id} {what}")));
    }
    Ok(found)
}

/// What has another key than what it is made of, by the keys' names: nothing is opened.
async fn strangers(conn: &impl ConnectionTrait) -> Result<Vec<String>> {
    let volumes = volume::Entity::find().filter(volume::Column::Encrypted.eq(Flag(true)));
    let volumes = rows::all(volumes, conn).await?;
    let snapshots = snapshot::Entity::find().filter(snapshot::Column::Encrypted.eq(Flag(true)));
    let snapshots = rows::all(snapshots, conn).await?;
    let name = |key: &Option<SecretText>| key.as_ref().map(|key| disk_keys::name(key).to_owned());
    let of_volumes = volumes.iter().map(|row| (row.id.0, name(&row.data_key)));
    let of_volumes: HashMap<VolumeId, Option<String>> = of_volumes.collect();
    let of_snapshots = snapshots.iter().map(|row| (row.id.0, name(&row.data_key)));
    let of_snapshots: HashMap<SnapshotId, Option<String>> = of_snapshots.collect();
    let mut found = Vec::new();
    for row in &volumes {
        let Some(source) = row.snapshot else { continue };
        if of_snapshots
            .get(&source.0)
            .is_some_and(|theirs| *theirs != name(&row.data_key))
        {
            found.push(format!(
                "{} has another data key than {}, which it is made of",
                row.id.0, source.0
            ));
        }
    }
    for row in &snapshots {
        let disk = row.volume.0;
        if of_volumes
            .get(&disk)
            .is_some_and(|theirs| *theirs != name(&row.data_key))
        {
            found.push(format!(
                "{} has another data key than {disk}, which it is of",
                row.id.0
            ));
        }
    }
    Ok(found)
}

//! Images' rows as several crates read and change them: the disks of those that are made of snapshots, and what becomes
//! of an image when its snapshots have been taken, or could not be.

use std::collections::{BTreeSet, HashMap};

use cumulet_domain::{
    Result,
    id::{ImageId, SnapshotId},
    image::ImageState,
    snapshot::SnapshotState,
    time::Timestamp,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder as _, QuerySelect as _,
    QueryTrait as _, sea_query::Expr,
};

use super::{batch::load_in, column, failed, lock, rows};
use crate::entity::{
    columns::{Flag, Key, Named},
    image, image_mapping, image_permission, instance, snapshot,
};

/// The manifest of a snapshot of nothing: the SHA-256 of no bytes.
pub const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The disks of images, by the images' numbers and in the order of their devices. Those that are made of files have
/// none.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn mappings(
    conn: &impl ConnectionTrait,
    images: &[i64],
) -> Result<HashMap<i64, Vec<image_mapping::Model>>> {
    let mut all: HashMap<i64, Vec<image_mapping::Model>> = HashMap::new();
    for row in load_in!(conn, image_mapping, Image, images) {
        all.entry(row.image.to_db()).or_default().push(row);
    }
    for disks in all.values_mut() {
        disks.sort_by(|a, b| a.device.cmp(&b.device));
    }
    Ok(all)
}

/// The images that have a disk of one of these snapshots, and are registered.
fn having(snapshots: &[i64]) -> sea_orm::Select<image::Entity> {
    use image_mapping::Column as M;
    let theirs = image_mapping::Entity::find()
        .select_only()
        .column(M::Image)
        .filter(M::Snapshot.is_in(snapshots.iter().copied()));
    image::Entity::find()
        .filter(image::Column::Id.in_subquery(theirs.into_query()))
        .filter(image::Column::DeregisteredAt.is_null())
        .order_by_asc(image::Column::Id)
}

/// The first registered image that has a disk of a snapshot. (Who has the snapshot's row locked sees each there is.)
///
/// # Errors
/// Those of the database.
pub async fn user_of(conn: &impl ConnectionTrait, snapshot: SnapshotId) -> Result<Option<ImageId>> {
    let found = having(&[snapshot.to_db()])
        .select_only()
        .column(image::Column::Id)
        .limit(1);
    let found: Vec<i64> = column(found, conn).await?;
    Ok(found.first().map(|id| ImageId::from_db(*id)))
}

/// Keeps others from the images that wait for snapshots until the transaction ends. (Before the snapshots are locked:
/// [`lock`].)
///
/// # Errors
/// Those of the database.
pub async fn lock_waiting(txn: &impl ConnectionTrait, snapshots: &[i64]) -> Result<()> {
    if !lock::needed(txn) {
        return Ok(());
    }
    let waiting = having(snapshots)
        .filter(image::Column::Phase.eq(Named(ImageState::Pending)))
        .select_only()
        .column(image::Column::Id);
    let waiting: Vec<i64> = column(waiting, txn).await?;
    lock::rows::<image::Entity>(txn, image::Column::Id, &waiting).await
}

/// The images that waited for these snapshots are available, each with its root's manifest; or they have failed, in
/// words why. Who calls has closed the snapshots in the same transaction.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn settle(txn: &impl ConnectionTrait, snapshots: &[i64], failure: Option<&str>) -> Result<()> {
    use image::Column as C;
    let waiting = having(snapshots).filter(C::Phase.eq(Named(ImageState::Pending)));
    for row in rows::all(waiting, txn).await? {
        let update = match failure {
            None => image::Entity::update_many()
                .col_expr(C::Manifest, Expr::value(root_manifest(txn, &row).await?))
                .col_expr(C::Phase, Expr::value(Option::<String>::None)),
            Some(why) => image::Entity::update_many()
                .col_expr(C::Phase, Expr::value(Named(ImageState::Failed)))
                .col_expr(C::PhaseReason, Expr::value(why)),
        };
        let update = update.filter(C::Id.eq(row.id));
        update.exec(txn).await.map_err(failed)?;
    }
    Ok(())
}

/// The manifest of a snapshot that a root is made of.
pub fn manifest_of(row: &snapshot::Model) -> String {
    row.manifest.clone().unwrap_or_else(|| NOTHING.into())
}

async fn root_manifest(txn: &impl ConnectionTrait, row: &image::Model) -> Result<Option<String>> {
    let key = (row.id, row.root_device.clone());
    let root = rows::one(image_mapping::Entity::find_by_id(key), txn).await?;
    let Some(id) = root.and_then(|root| root.snapshot) else {
        return Ok(None);
    };
    let root = rows::one(snapshot::Entity::find_by_id(id), txn).await?;
    Ok(root.map(|root| manifest_of(&root)))
}

/// Takes images' rows away, with what hangs on them but their tags.
///
/// # Errors
/// Those of the database.
pub async fn remove(txn: &impl ConnectionTrait, images: &[i64]) -> Result<u64> {
    let ids = || images.iter().copied();
    let mappings = image_mapping::Entity::delete_many().filter(image_mapping::Column::Image.is_in(ids()));
    mappings.exec(txn).await.map_err(failed)?;
    let given = image_permission::Entity::delete_many().filter(image_permission::Column::Image.is_in(ids()));
    given.exec(txn).await.map_err(failed)?;
    let rows = image::Entity::delete_many().filter(image::Column::Id.is_in(ids()));
    Ok(rows.exec(txn).await.map_err(failed)?.rows_affected)
}

/// Some images that were deregistered at the horizon or before it, that no instance is of any more, and that are no
/// file's only row: one that was imported is the operator's to delete, with its file.
///
/// # Errors
/// Those of the database.
pub async fn gone(conn: &impl ConnectionTrait, horizon: Timestamp, most: u64) -> Result<Vec<i64>> {
    use image::Column as C;
    let used = instance::Entity::find()
        .select_only()
        .column(instance::Column::Image);
    let imported = image::Entity::find()
        .select_only()
        .column(C::Sha256)
        .filter(C::SourceImage.is_null());
    let copied = Condition::all()
        .add(C::SourceImage.is_not_null())
        .add(C::Sha256.in_subquery(imported.into_query()));
    let gone = image::Entity::find()
        .select_only()
        .column(C::Id)
        .filter(C::DeregisteredAt.lte(horizon.0))
        .filter(Condition::any().add(C::Sha256.eq("")).add(copied))
        .filter(C::Id.not_in_subquery(used.into_query()))
        .limit(most);
    column(gone, conn).await
}

/// Deletes the rows of those.
///
/// # Errors
/// Those of the database.
pub async fn forget(conn: &impl ConnectionTrait, horizon: Timestamp, most: u64) -> Result<u64> {
    let gone = gone(conn, horizon, most).await?;
    if gone.is_empty() {
        return Ok(0);
    }
    remove(conn, &gone).await
}

/// What must hold of images that are made of snapshots, in words: one that is available has a manifest, its root among
/// its disks, each snapshot of a registered one is there, and is as encrypted as it says.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn findings(conn: &impl ConnectionTrait) -> Result<Vec<String>> {
    use image::Column as C;
    let made = image::Entity::find()
        .filter(C::Sha256.eq(""))
        .filter(C::DeregisteredAt.is_null());
    let made = rows::all(made, conn).await?;
    let ids: Vec<i64> = made.iter().map(|row| row.id.to_db()).collect();
    let disks = mappings(conn, &ids).await?;
    let named: BTreeSet<i64> = disks
        .values()
        .flatten()
        .filter_map(|disk| disk.snapshot.map(Key::to_db))
        .collect();
    let named: Vec<i64> = named.into_iter().collect();
    let there = load_in!(conn, snapshot, Id, &named).into_iter();
    let there = there.filter(|row| row.deleted_at.is_none());
    let there: Vec<snapshot::Model> = there.collect();
    let encrypted: BTreeSet<i64> = there
        .iter()
        .filter(|row| row.encrypted.0)
        .map(|row| row.id.to_db())
        .collect();
    let there: HashMap<i64, SnapshotState> = there.iter().map(|row| (row.id.to_db(), row.state.0)).collect();
    let mut found = Vec::new();
    for row in &made {
        let (id, theirs) = (row.id.0, disks.get(&row.id.to_db()));
        let theirs = theirs.map_or(&[][..], Vec::as_slice);
        let settled = matches!(row.state(), ImageState::Available | ImageState::Disabled);
        if settled && row.manifest.is_none() {
            found.push(format!("{id} is {} and has no manifest", row.state()));
        }
        if !theirs
            .iter()
            .any(|disk| disk.device == row.root_device && disk.snapshot.is_some())
        {
            found.push(format!("{id} is made of a snapshot and has none for its root"));
        }
        let snapshots = theirs.iter().filter_map(|disk| disk.snapshot);
        let mut states = snapshots
            .clone()
            .filter_map(|snapshot| there.get(&snapshot.to_db()));
        if row.state() == ImageState::Pending && states.all(|state| *state != SnapshotState::Pending) {
            found.push(format!(
                "{id} waits for snapshots, and none of them is being taken"
            ));
        }
        found.extend(misjudged(row, theirs, &encrypted));
        found.extend(
            snapshots
                .filter(|snapshot| !there.contains_key(&snapshot.to_db()))
                .map(|snapshot| format!("{id} has a disk of {}, which is gone", snapshot.0)),
        );
    }
    Ok(found)
}

/// What an image says of the encryption of its data, where its snapshots (of which these are encrypted) say otherwise.
fn misjudged(row: &image::Model, disks: &[image_mapping::Model], encrypted: &BTreeSet<i64>) -> Vec<String> {
    let mut found = Vec::new();
    for disk in disks {
        let Some(snapshot) = disk.snapshot else { continue };
        let (id, says) = (row.id.0, disk.encrypted == Some(Flag(true)));
        let is = encrypted.contains(&snapshot.to_db());
        if says != is {
            let device = &disk.device.0;
            found.push(format!(
                "{id} says of {device} that it is encrypted: {says}, and {} is: {is}",
                snapshot.0
            ));
        }
        if disk.device == row.root_device && (row.encrypted == Some(Flag(true))) != is {
            found.push(format!(
                "{id} says that its root is encrypted: {}, and {} is: {is}",
                !is, snapshot.0
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_digest() {
        assert!(cumulet_domain::snapshot::is_digest(NOTHING));
    }
}

//! Volumes' rows, and their attachments to instances. A root volume is made with its instance, and so are those that its
//! launch names.

use std::collections::{HashMap, HashSet};

use cumulet_domain::{
    Result,
    id::VolumeId,
    time::Timestamp,
    volume::{AttachmentState, Disk, ROOT_DEVICE, VolumeState},
};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
    sea_query::Expr,
};

use super::{batch::load_in, failed};
use crate::entity::{
    columns::{Amount, Count, Device, Flag, Key, Named},
    instance,
    secret_text::SecretText,
    volume, volume_attachment,
};

/// The root volume of a new instance. It has its instance's number, by which earlier programs know it; nothing else
/// may go by that.
pub fn root(instance: &instance::Model, disk: &Disk, data_key: Option<SecretText>) -> volume::Model {
    let (id, gib) = (root_id(instance), instance.disk_gib.0);
    volume::Model {
        image: Some(instance.image),
        ..data(instance, id, (disk, gib), data_key)
    }
}

/// A volume that is made with an instance to be one of its disks beside the root, of so many GiB. It is encrypted where
/// it has a data key, sealed for it.
pub fn data(
    instance: &instance::Model,
    id: VolumeId,
    (disk, size_gib): (&Disk, u32),
    data_key: Option<SecretText>,
) -> volume::Model {
    volume::Model {
        id: Key(id),
        account: instance.account,
        availability_zone: instance.availability_zone.clone(),
        size_gib: Count(size_gib),
        volume_type: Named(disk.kind),
        state: Named(VolumeState::InUse),
        state_message: None,
        image: None,
        snapshot: disk.snapshot.map(Key),
        encrypted: Flag(data_key.is_some()),
        iops: disk.provisioned.iops.map(Count),
        throughput: disk.provisioned.throughput.map(Count),
        host: None,
        generation: Amount(1),
        created_at: instance.created_at,
        deleted_at: None,
        made_at: None,
        auto_enable_io: None,
        data_key,
        source_volume: None,
        format: None,
        store: None,
    }
}

/// A root volume's number, which is its instance's.
pub fn root_id(instance: &instance::Model) -> VolumeId {
    VolumeId::from_db(instance.id.to_db())
}

/// The attachment of an instance's root volume, which ends with it.
pub fn root_attachment(instance: &instance::Model, device: &str) -> volume_attachment::Model {
    volume_attachment::Model {
        instance: instance.id,
        device: Device(device.into()),
        volume: Key(root_id(instance)),
        boot_index: Some(Count(0)),
        state: Named(AttachmentState::Attached),
        delete_on_termination: Flag(true),
        attached_at: instance.created_at,
        generation: None,
    }
}

/// The attachment of a volume that is made with an instance. It is there when the instance runs.
pub fn data_attachment(
    instance: &instance::Model,
    volume: VolumeId,
    disk: &Disk,
) -> volume_attachment::Model {
    volume_attachment::Model {
        volume: Key(volume),
        boot_index: None,
        state: Named(AttachmentState::Attaching),
        delete_on_termination: Flag(disk.delete_on_termination),
        ..root_attachment(instance, &disk.device)
    }
}

/// Adds the volumes of new instances, and their attachments.
///
/// # Errors
/// Those of the database.
pub async fn insert(
    txn: &impl ConnectionTrait,
    volumes: Vec<volume::Model>,
    attachments: &[volume_attachment::Model],
) -> Result<()> {
    // Each statement is of rows with the same columns.
    let says_more = |row: &volume::Model| {
        let made = row.snapshot.is_some() || row.data_key.is_some();
        made || row.iops.is_some() || row.throughput.is_some() || row.store.is_some()
    };
    let (more, plain): (Vec<_>, Vec<_>) = volumes.into_iter().partition(says_more);
    // At most 14 and 7 columns a row; SQLite takes 32,766 parameters.
    for rows in plain.chunks(1000) {
        let rows = rows.iter().cloned().map(new);
        let insert = volume::Entity::insert_many(rows).exec_without_returning(txn);
        insert.await.map_err(failed)?;
    }
    for rows in more.chunks(1000) {
        let rows = rows.iter().cloned().map(|row| volume::ActiveModel {
            snapshot: Set(row.snapshot),
            iops: Set(row.iops),
            throughput: Set(row.throughput),
            data_key: Set(row.data_key.clone()),
            store: Set(row.store),
            ..new(row)
        });
        let insert = volume::Entity::insert_many(rows).exec_without_returning(txn);
        insert.await.map_err(failed)?;
    }
    for rows in attachments.chunks(1000) {
        let new = |row: volume_attachment::Model| volume_attachment::ActiveModel {
            generation: NotSet,
            ..row.into()
        };
        let rows = rows.iter().cloned().map(new);
        let insert = volume_attachment::Entity::insert_many(rows).exec_without_returning(txn);
        insert.await.map_err(failed)?;
    }
    Ok(())
}

/// The row of a new volume, without the columns that have nothing yet: a launch is to cost no more than it must.
fn new(volume: volume::Model) -> volume::ActiveModel {
    volume::ActiveModel {
        state_message: NotSet,
        snapshot: volume.snapshot.map_or(NotSet, |snapshot| Set(Some(snapshot))),
        iops: NotSet,
        throughput: NotSet,
        host: NotSet,
        deleted_at: NotSet,
        made_at: NotSet,
        auto_enable_io: NotSet,
        data_key: NotSet,
        source_volume: NotSet,
        format: NotSet,
        store: NotSet,
        ..volume.into()
    }
}

/// The disks of instances, by the instances' numbers: the root disk first. One that lives and has none was launched
/// by a program of before these rows, which runs beside this one until an upgrade is through; it has what
/// [`super::catch_up`] is going to write.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn disks(
    conn: &impl ConnectionTrait,
    instances: &[&instance::Model],
) -> Result<HashMap<i64, Vec<volume_attachment::Model>>> {
    let living = instances.iter().filter(|row| row.terminated_at.is_none());
    let ids: Vec<i64> = living.clone().map(|row| row.id.to_db()).collect();
    let mut disks: HashMap<i64, Vec<volume_attachment::Model>> = HashMap::with_capacity(ids.len());
    for row in load_in!(conn, volume_attachment, Instance, &ids) {
        disks.entry(row.instance.to_db()).or_default().push(row);
    }
    let bare: Vec<&&instance::Model> = living
        .filter(|row| !disks.contains_key(&row.id.to_db()))
        .collect();
    if !bare.is_empty() {
        let images: HashSet<i64> = bare.iter().map(|row| row.image.to_db()).collect();
        let images: Vec<i64> = images.into_iter().collect();
        let images = load_in!(conn, image, Id, &images);
        for row in bare {
            let image = images.iter().find(|image| image.id == row.image);
            let device = image.map_or(ROOT_DEVICE, |image| &image.root_device.0);
            disks.insert(row.id.to_db(), vec![root_attachment(row, device)]);
        }
    }
    for disks in disks.values_mut() {
        disks.sort_by(|a, b| (!a.is_root(), &a.device).cmp(&(!b.is_root(), &b.device)));
    }
    Ok(disks)
}

/// Says whether a disk ends with its instance.
///
/// # Errors
/// Those of the database.
pub async fn set_delete_on_termination(
    conn: &impl ConnectionTrait,
    disk: &volume_attachment::Model,
    value: bool,
) -> Result<()> {
    use volume_attachment::Column as A;
    let update = volume_attachment::Entity::update_many()
        .col_expr(A::DeleteOnTermination, Expr::value(Flag(value)))
        .filter(A::Instance.eq(disk.instance))
        .filter(A::Volume.eq(disk.volume));
    update.exec(conn).await.map(drop).map_err(failed)
}

/// Volumes, by their numbers, that ended at the horizon or before it.
pub fn ended(horizon: Timestamp) -> sea_orm::Select<volume::Entity> {
    volume::Entity::find()
        .select_only()
        .column(volume::Column::Id)
        .filter(volume::Column::DeletedAt.lte(horizon.0))
}

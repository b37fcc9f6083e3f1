//! Images that are files, which come and go by the operator's commands.

use cumulet_core::Parts;
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::AccountId,
    id::{ImageId, marker},
    image::{Architecture, BootMode, DiskFormat},
    time::Timestamp,
    volume::check_root_device,
};
use cumulet_store::{
    authority::Operator,
    entity::{
        account,
        columns::{Amount, Device, Flag, Named},
        image, instance,
    },
    failed, images, lock,
    resource::{self, Lock},
    rows, tags,
};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};

use super::{
    ImageView,
    deregister::{Protection, protection},
    insert::{check_name, fresh, name_is_free},
};
use crate::{aliases, boxed};

/// An image whose file is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewImage {
    pub account: AccountId,
    pub name: String,
    pub description: String,
    /// Every account sees it.
    pub public: bool,
    /// What it runs on.
    pub architecture: Architecture,
    pub format: DiskFormat,
    /// Of the stored file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    pub size_bytes: u64,
    pub virtual_bytes: u64,
    /// For instance `/dev/xvda`; one of `cumulet_domain::volume::ROOT_DEVICES`.
    pub root_device: String,
    /// How it wants to be started.
    pub boot_mode: BootMode,
}

/// Adds an image whose file is in place.
///
/// # Errors
/// `ImageName` for a name that EC2 would refuse, `NoDeviceName` for such a root device; `ImageNameTaken`.
#[boxed]
pub async fn add(parts: &Parts, new: NewImage) -> Result<ImageView> {
    let row = image::Model {
        description: new.description,
        public: Flag(new.public),
        architecture: Named(new.architecture),
        format: Named(new.format),
        sha256: new.sha256,
        size_bytes: Amount(new.size_bytes),
        virtual_bytes: Amount(new.virtual_bytes),
        root_device: Device(new.root_device),
        boot_mode: Some(Named(new.boot_mode)),
        ..fresh(
            parts.rng.id::<marker::Image>(),
            new.account,
            new.name,
            parts.clock.now(),
        )
    };
    check_name(&row.name)?;
    check_root_device(&row.root_device.0)?;
    let view = ImageView {
        row: row.clone(),
        disks: Vec::new(),
        tags: Vec::new(),
        is_clouds: false,
    };
    let write = parts.store.write(move |txn| {
        Box::pin(async move {
            // Two of one name come one after the other.
            lock::rows::<account::Entity>(txn, account::Column::Id, &[row.account.0.to_db()]).await?;
            name_is_free(txn, row.account.0, &row.name).await?;
            let insert = image::Entity::insert(image::ActiveModel::from(row));
            insert.exec_without_returning(txn).await.map(drop).map_err(failed)
        })
    });
    write.await?;
    Ok(view)
}

/// Every image, deregistered ones included.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list(parts: &Parts) -> Result<Vec<image::Model>> {
    let query = image::Entity::find()
        .order_by_asc(image::Column::CreatedAt)
        .order_by_asc(image::Column::Id);
    rows::all(query, parts.store.read()).await
}

/// Removes an image's row and answers it, with whether it has a file that no other image has: then that can go too.
///
/// # Errors
/// `NotFound`; `Protected` while its owner keeps it from being deregistered; `InUse` while an instance that was made from
/// it has not ended, and while it has an alias: somebody launches by that name, and is to be told another image first.
#[boxed]
pub async fn delete(parts: &Parts, id: ImageId) -> Result<(image::Model, bool)> {
    let now = parts.clock.now();
    let write = parts.store.write(move |txn| {
        Box::pin(async move {
            // Locked before its users are counted: a launch that has read it is waited for.
            let row = resource::find::<image::Entity>(txn, &Operator, id, Lock::Exclusive).await?;
            check_unprotected(&row, now)?;
            let users = instance::Entity::find()
                .filter(instance::Column::Image.eq(row.id))
                .filter(instance::Column::TerminatedAt.is_null());
            let users = users.count(txn).await.map_err(failed)?;
            if users > 0 {
                return Err(Error::InUse {
                    kind: ResourceKind::Image,
                    id: id.to_string(),
                    by: format!("{users} instances"),
                });
            }
            aliases::none_of(txn, id).await?;
            images::remove(txn, &[row.id.to_db()]).await?;
            tags::remove(txn, ResourceKind::Image, &[row.id.to_db()]).await?;
            if row.sha256.is_empty() {
                return Ok((row, false));
            }
            let others = image::Entity::find().filter(image::Column::Sha256.eq(&row.sha256));
            let others = others.count(txn).await.map_err(failed)?;
            Ok((row, others == 0))
        })
    });
    write.await
}

/// What is gone with its file is more than deregistered.
fn check_unprotected(row: &image::Model, now: Timestamp) -> Result<()> {
    let (id, account) = (row.id.0, row.account.0);
    let reason = match protection(row, now) {
        Some(Protection::Enabled) => format!(
            "its deregistration protection is enabled; its account {account} takes that off first: \
             `aws ec2 disable-image-deregistration-protection --image-id {id}`"
        ),
        Some(Protection::Lasts(until)) => format!(
            "its deregistration protection was disabled and lasts for a day from then; delete it after {until}"
        ),
        None => return Ok(()),
    };
    Err(Error::Protected {
        id: id.to_string(),
        reason,
    })
}

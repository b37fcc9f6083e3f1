//! A new image: its name, which is its account's alone, the room for it, its row, its disks' rows and its tags.

use cumulet_core::{RequestContext, quota};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::AccountId,
    error::Limit,
    id::ImageId,
    image::{Architecture, BootMode, DiskFormat, ImageState},
    tag::Tag,
    time::Timestamp,
};
use cumulet_store::{
    authority::Grant,
    column,
    entity::{
        columns::{Amount, Device, Flag, Key, Named, Owner},
        image, image_mapping,
    },
    failed, resource, tags,
};
use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait, QueryFilter as _, QuerySelect as _};

/// RegisterImage's rule for names.
///
/// # Errors
/// `ImageName`.
pub(super) fn check_name(name: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"()[] ./-'@_".contains(&b);
    if (3..=128).contains(&name.len()) && name.bytes().all(fine) {
        return Ok(());
    }
    Err(Error::ImageName {
        name: name.chars().take(128).collect(),
    })
}

/// Whether the account may have one more, and has none of this name. (Before snapshots are locked: `store::lock`.)
///
/// # Errors
/// `LimitExceeded`, `ImageNameTaken`.
pub(super) async fn room(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    account: AccountId,
    name: &str,
) -> Result<()> {
    let theirs = image::Entity::find()
        .filter(image::Column::Account.eq(account.to_db()))
        .filter(image::Column::DeregisteredAt.is_null());
    let max = cx.config.quotas.images;
    // From here on the account's row is locked: two of one name come one after the other.
    quota::room_for_one(txn, account, theirs, Limit::Images, max).await?;
    name_is_free(txn, account, name).await
}

/// No image of the account has the name. (There is no unique key: deregistered ones keep theirs.)
///
/// # Errors
/// `ImageNameTaken`.
pub(super) async fn name_is_free(txn: &DatabaseTransaction, account: AccountId, name: &str) -> Result<()> {
    let same = image::Entity::find()
        .select_only()
        .column(image::Column::Id)
        .filter(image::Column::Account.eq(account.to_db()))
        .filter(image::Column::Name.eq(name))
        .filter(image::Column::DeregisteredAt.is_null())
        .limit(1);
    match column::<_, i64>(same, txn).await?.first() {
        None => Ok(()),
        Some(id) => Err(Error::ImageNameTaken {
            name: name.into(),
            by: ImageId::from_db(*id).to_string(),
        }),
    }
}

/// What a new image is for the most part: available, its account's alone, and of nothing yet.
pub(super) fn fresh(id: ImageId, account: AccountId, name: String, now: Timestamp) -> image::Model {
    image::Model {
        id: Key(id),
        account: Owner(account),
        name,
        description: String::new(),
        state: Named(ImageState::Available),
        public: Flag(false),
        architecture: Named(Architecture::X86_64),
        format: Named(DiskFormat::Raw),
        sha256: String::new(),
        size_bytes: Amount(0),
        virtual_bytes: Amount(0),
        root_device: Device(String::new()),
        boot_mode: Some(Named(BootMode::LegacyBios)),
        created_at: now.0,
        deregistered_at: None,
        manifest: None,
        phase: None,
        phase_reason: None,
        source_instance: None,
        source_image: None,
        deprecated_at: None,
        protection: None,
        protected_until: None,
        imds_support: None,
        encrypted: None,
    }
}

/// Keeps an image. It is shown to the policy as it is going to be.
///
/// # Errors
/// `Unauthorized`; those of the database.
pub(super) async fn insert(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    row: image::Model,
    disks: Vec<image_mapping::Model>,
    new_tags: &[Tag],
) -> Result<ImageId> {
    resource::show_new::<image::Entity>(grant, &row, new_tags)?;
    let id = row.id.0;
    let insert = image::Entity::insert(image::ActiveModel::from(row));
    insert.exec_without_returning(txn).await.map_err(failed)?;
    if !disks.is_empty() {
        let disks = disks.into_iter().map(image_mapping::ActiveModel::from);
        let insert = image_mapping::Entity::insert_many(disks);
        insert.exec_without_returning(txn).await.map_err(failed)?;
    }
    cx.made(&id);
    tags::insert(txn, grant.account(), ResourceKind::Image, &[id.to_db()], new_tags).await?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, good) in [
            ("abc", true),
            ("ab", false),
            ("a/b-(1.0) [x]'@_", true),
            (&*"x".repeat(128), true),
            (&*"x".repeat(129), false),
            ("a\tbc", false),
            ("naïve", false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }
}

//! A machine image.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::{Image, Instance},
    image::{Architecture, BootMode, DeregistrationProtection, DiskFormat, ImageState},
};
use sea_orm::{QuerySelect as _, QueryTrait as _, entity::prelude::*};

use super::columns::{Amount, Device, Flag, Key, Named, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "images")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<Image>,
    pub account: Owner,
    pub name: String,
    pub description: String,
    pub state: Named<ImageState>,
    pub public: Flag,
    pub architecture: Named<Architecture>,
    pub format: Named<DiskFormat>,
    pub sha256: String,
    pub size_bytes: Amount,
    pub virtual_bytes: Amount,
    pub root_device: Device,
    pub boot_mode: Option<Named<BootMode>>,
    pub created_at: i64,
    pub deregistered_at: Option<i64>,
    pub manifest: Option<String>,
    pub phase: Option<Named<ImageState>>,
    pub phase_reason: Option<String>,
    pub source_instance: Option<Key<Instance>>,
    pub source_image: Option<Key<Image>>,
    pub deprecated_at: Option<i64>,
    pub protection: Option<Named<DeregistrationProtection>>,
    pub protected_until: Option<i64>,
    pub imds_support: Option<String>,
    pub encrypted: Option<Flag>,
}

impl Model {
    /// Where it is in its life.
    #[inline]
    pub fn state(&self) -> ImageState {
        self.phase.unwrap_or(self.state).0
    }

    /// The operator has imported it. What accounts make of it may have its name, and its file.
    #[inline]
    pub fn is_imported(&self) -> bool {
        !self.sha256.is_empty() && self.source_image.is_none()
    }

    /// How it wants to be started.
    #[inline]
    pub fn boot_mode(&self) -> BootMode {
        self.boot_mode.map_or(BootMode::LegacyBios, |Named(mode)| mode)
    }
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

// Public ones are in everybody's sight.
crate::resource::resource!(Image, |to| known(to).add(Column::DeregisteredAt.is_null()));

/// The images in sight, and those that were until they were deregistered: an account's own, those that it was given, and
/// where that is asked for those that everybody was.
pub fn known(to: crate::authority::Visibility) -> sea_orm::Condition {
    use super::image_permission as given;

    let account = to.account.to_db();
    let own = sea_orm::Condition::any().add(Column::Account.eq(account));
    let any = match to.public {
        true => {
            let theirs = given::Entity::find()
                .select_only()
                .column(given::Column::Image)
                .filter(given::Column::Account.eq(account));
            own.add(Column::Public.eq(1))
                .add(Column::Id.in_subquery(theirs.into_query()))
        }
        false => own,
    };
    sea_orm::Condition::all().add(any)
}

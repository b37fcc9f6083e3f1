//! A machine image.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::Image,
    image::{BootMode, DiskFormat, ImageState},
};
use sea_orm::entity::prelude::*;

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
    pub architecture: String,
    pub format: Named<DiskFormat>,
    pub sha256: String,
    pub size_bytes: Amount,
    pub virtual_bytes: Amount,
    pub root_device: Device,
    pub boot_mode: Option<Named<BootMode>>,
    pub created_at: i64,
    pub deregistered_at: Option<i64>,
}

impl Model {
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

/// The images in sight, and those that were until they were deregistered.
pub fn known(to: crate::authority::Visibility) -> sea_orm::Condition {
    let own = sea_orm::Condition::any().add(Column::Account.eq(to.account.to_db()));
    let any = if to.public {
        own.add(Column::Public.eq(1))
    } else {
        own
    };
    sea_orm::Condition::all().add(any)
}

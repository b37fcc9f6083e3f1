//! A machine image.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "images")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub account: i64,
    pub name: String,
    pub description: String,
    pub state: String,
    pub public: i64,
    pub architecture: String,
    pub format: String,
    pub sha256: String,
    pub size_bytes: i64,
    pub virtual_bytes: i64,
    pub root_device: String,
    pub created_at: i64,
    pub deregistered_at: Option<i64>,
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

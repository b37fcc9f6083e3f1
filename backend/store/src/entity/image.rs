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

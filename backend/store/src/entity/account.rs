//! An account with its quotas; a claim is one conditional update of the used columns.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "accounts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub name: String,
    pub instances_used: i64,
    pub instances_max: i64,
    pub vcpus_used: i64,
    pub vcpus_max: i64,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

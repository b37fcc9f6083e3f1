//! A client token: the hash of the request and what it made.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

use super::columns::Owner;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "client_tokens")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account: Owner,
    #[sea_orm(primary_key, auto_increment = false)]
    pub operation: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub token: String,
    pub request_hash: String,
    pub result: String,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

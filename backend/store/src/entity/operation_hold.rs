//! A resource that an open operation holds: no other operation may have it until that one ends.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::Operation;
use sea_orm::entity::prelude::*;

use super::columns::Key;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "operation_holds")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub resource: i64,
    pub operation: Key<Operation>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

//! A metadata push: an instance whose metadata its host has not confirmed.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::Instance;
use sea_orm::entity::prelude::*;

use super::columns::Key;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "metadata_pushes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub instance: Key<Instance>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

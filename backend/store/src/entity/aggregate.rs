//! A set of hosts that the operator has put together.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::Aggregate;
use sea_orm::entity::prelude::*;

use super::columns::Key;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "aggregates")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<Aggregate>,
    pub name: String,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

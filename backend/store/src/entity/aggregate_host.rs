//! A host of an aggregate.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::Aggregate;
use sea_orm::entity::prelude::*;

use super::columns::Key;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "aggregate_hosts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub aggregate: Key<Aggregate>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub host: String,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

//! The policy generation of a VPC that a host has applied.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::Vpc;
use sea_orm::entity::prelude::*;

use super::columns::{Amount, Key};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "host_networks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub host: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub vpc: Key<Vpc>,
    pub applied_generation: Amount,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

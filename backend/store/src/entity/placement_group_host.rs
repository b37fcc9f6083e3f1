//! A host with members of a placement group.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::PlacementGroup;
use sea_orm::entity::prelude::*;

use super::columns::{Count, Key};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "placement_group_hosts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub placement_group: Key<PlacementGroup>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub slot: String,
    pub host: String,
    pub partition_number: Count,
    pub members: Count,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

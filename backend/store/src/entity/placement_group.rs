//! A placement group.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::PlacementGroup,
    placement::{SpreadLevel, Strategy},
};
use sea_orm::entity::prelude::*;

use super::columns::{Count, Key, Named, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "placement_groups")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<PlacementGroup>,
    pub account: Owner,
    pub name: String,
    pub strategy: Named<Strategy>,
    pub partition_count: Option<Count>,
    pub spread_level: Option<Named<SpreadLevel>>,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

crate::resource::resource!(PlacementGroup);
crate::resource::named!();

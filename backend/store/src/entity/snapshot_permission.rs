//! An account that may make volumes of another's snapshot.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::Snapshot;
use sea_orm::entity::prelude::*;

use super::columns::{Key, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "snapshot_permissions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub snapshot: Key<Snapshot>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub account: Owner,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

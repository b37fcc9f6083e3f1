//! An account with its quotas; a claim is one conditional update of the used columns.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

use super::columns::{Amount, Flag, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "accounts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Owner,
    pub name: String,
    // Sums that are counted along: where one is wrong, `cumulet audit` tells, and the row is good all the same.
    pub instances_used: i64,
    pub instances_max: Amount,
    pub vcpus_used: i64,
    pub vcpus_max: Amount,
    pub created_at: i64,
    pub encrypts: Option<Flag>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

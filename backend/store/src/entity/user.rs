//! A user of an account.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::account::Role;
use sea_orm::entity::prelude::*;

use super::columns::{Flag, Named, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub account: Owner,
    pub name: String,
    pub role: Named<Role>,
    pub enabled: Flag,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

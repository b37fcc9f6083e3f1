//! A security group.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::{SecurityGroup, Vpc};
use sea_orm::entity::prelude::*;

use super::columns::{Flag, Key, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "security_groups")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<SecurityGroup>,
    pub account: Owner,
    pub vpc: Key<Vpc>,
    pub name: String,
    pub description: String,
    pub is_default: Flag,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

crate::resource::resource!(SecurityGroup);

//! A rule of a security group; `rule` is the domain's rule as JSON.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::{SecurityGroup, SecurityGroupRule};
use sea_orm::entity::prelude::*;

use super::columns::{Key, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "security_group_rules")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<SecurityGroupRule>,
    pub account: Owner,
    pub security_group: Key<SecurityGroup>,
    pub rule: String,
    pub peer_group: Option<Key<SecurityGroup>>,
    pub description: String,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

crate::resource::resource!(SecurityGroupRule);

//! An interface's membership of a security group.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::{NetworkInterface, SecurityGroup};
use sea_orm::entity::prelude::*;

use super::columns::Key;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "interface_groups")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub interface: Key<NetworkInterface>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub security_group: Key<SecurityGroup>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

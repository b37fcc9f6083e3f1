//! A subnet.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::{Subnet, Vpc},
    network::Cidr,
};
use sea_orm::entity::prelude::*;

use super::columns::{Flag, Key, Named, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subnets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<Subnet>,
    pub account: Owner,
    pub vpc: Key<Vpc>,
    pub cidr: Named<Cidr>,
    pub availability_zone: String,
    pub is_default: Flag,
    pub map_public_ip: Flag,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

crate::resource::resource!(Subnet);

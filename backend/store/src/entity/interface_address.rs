//! An address of a network interface.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::{NetworkInterface, Subnet, Vpc};
use sea_orm::entity::prelude::*;

use super::columns::{Address, Count, Key, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "interface_addresses")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub subnet: Key<Subnet>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub address: Address,
    pub interface: Key<NetworkInterface>,
    pub address_index: Count,
    pub account: Owner,
    pub vpc: Key<Vpc>,
    pub public_address: Option<Address>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

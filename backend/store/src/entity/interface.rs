//! A network interface. `private_ip` and `public_ip` repeat the primary row of `interface_addresses` as IPv4 numbers:
//! they are written for programs of before that table, which may run beside this one, and read for interfaces that
//! such a program has made, in `store::addresses` alone.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::{Instance, InterfaceAttachment, NetworkInterface, Subnet, Vpc};
use sea_orm::entity::prelude::*;

use super::columns::{Count, Ethernet, Ipv4, Key, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "interfaces")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<NetworkInterface>,
    pub account: Owner,
    pub instance: Key<Instance>,
    pub device_index: Count,
    pub attachment: Key<InterfaceAttachment>,
    pub vpc: Key<Vpc>,
    pub subnet: Key<Subnet>,
    pub mac: Ethernet,
    pub private_ip: Ipv4,
    pub public_ip: Option<Ipv4>,
    pub description: String,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

crate::resource::resource!(NetworkInterface);

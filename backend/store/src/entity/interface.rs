//! A network interface. `private_ip` and `public_ip` repeat the primary row of `interface_addresses` as IPv4 numbers:
//! they are written for programs of before that table, which may run beside this one, and read for interfaces that
//! such a program has made, in `store::addresses` alone.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "interfaces")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub account: i64,
    pub instance: i64,
    pub device_index: i64,
    pub attachment: i64,
    pub vpc: i64,
    pub subnet: i64,
    pub mac: i64,
    pub private_ip: i64,
    pub public_ip: Option<i64>,
    pub description: String,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

crate::resource::resource!(NetworkInterface);

//! A VPC.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{id::marker::Vpc, network::Cidr};
use sea_orm::entity::prelude::*;

use super::columns::{Amount, Count, Flag, Key, Named, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "vpcs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<Vpc>,
    pub account: Owner,
    pub cidr: Named<Cidr>,
    pub is_default: Flag,
    pub policy_generation: Amount,
    pub vni: Option<Count>,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

crate::resource::resource!(Vpc);

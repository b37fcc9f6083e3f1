//! A reservation: the instances of one RunInstances.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::Reservation;
use sea_orm::entity::prelude::*;

use super::columns::{Key, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "reservations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<Reservation>,
    pub account: Owner,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

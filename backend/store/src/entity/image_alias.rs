//! A name of an image that an operator gives.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::Image;
use sea_orm::entity::prelude::*;

use super::columns::{Amount, Key};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "image_aliases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub image: Key<Image>,
    pub version: Amount,
    pub modified_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

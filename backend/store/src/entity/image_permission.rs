//! An account that may launch another's image.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::id::marker::Image;
use sea_orm::entity::prelude::*;

use super::columns::{Key, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "image_permissions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub image: Key<Image>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub account: Owner,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

//! The public half of a key pair.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_certs::KeyType;
use cumulet_domain::id::marker::KeyPair;
use sea_orm::entity::prelude::*;

use super::columns::{Key, Named, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "key_pairs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<KeyPair>,
    pub account: Owner,
    pub name: String,
    pub kind: Named<KeyType>,
    pub fingerprint: String,
    pub public_key: String,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

crate::resource::resource!(KeyPair);
crate::resource::named!();

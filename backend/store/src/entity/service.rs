//! A process of the cloud in one of its roles.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "services")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    // A text: the roles are the binary's (`src/roles.rs`), and a newer program, which runs beside this one while roles
    // are replaced one after the other, may have one more. Nothing goes by it; the operator is shown it, above all then.
    pub role: String,
    pub host: String,
    pub version: String,
    pub last_seen: i64,
    pub created_at: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

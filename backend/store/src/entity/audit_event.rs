//! An entry of the audit log: one mutating call, accepted or refused.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

use super::columns::{Count, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_log")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub at: i64,
    pub account: Owner,
    pub user_name: String,
    pub action: String,
    pub resource: Option<String>,
    pub outcome: String,
    pub request_id: String,
    pub detail: Option<String>,
    pub repeats: Option<Count>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

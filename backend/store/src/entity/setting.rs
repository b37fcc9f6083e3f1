//! A setting of the cloud that outlives a restart; some are sealed.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

use super::secret_text::SecretText;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "settings")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub value: SecretText,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

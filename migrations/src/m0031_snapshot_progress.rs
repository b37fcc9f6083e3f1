//! How far the taking of a snapshot has come, as its host has told it last.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, big_null, drop_columns};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // In per cent, 99 at the most: its state says when it is whole. Null: nothing was told.
        add_column(m, "snapshots", big_null("progress")).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_columns(m, &[("snapshots", "progress")]).await
    }
}

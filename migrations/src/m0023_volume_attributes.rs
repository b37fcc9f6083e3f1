//! What of a volume is its owner's word: whether its I/O is enabled again by itself.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, big_null, drop_columns};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Null: nobody has said so, and it is not.
        add_column(m, "volumes", big_null("auto_enable_io")).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_columns(m, &[("volumes", "auto_enable_io")]).await
    }
}

//! The console address of each host.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, drop_columns, name_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // A host and a port, or `local`; null where a host takes none.
        add_column(m, "hosts", name_null("console_address")).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_columns(m, &[("hosts", "console_address")]).await
    }
}

//! How often a refused call of the audit log came again.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, big_null, drop_columns};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Null where it came once.
        add_column(m, "audit_log", big_null("repeats")).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_columns(m, &[("audit_log", "repeats")]).await
    }
}

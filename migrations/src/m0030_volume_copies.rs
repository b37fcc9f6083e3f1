//! Volumes that are copies of others: what each is a copy of, and a way from a snapshot to the volumes that are made of
//! it, since the end of its taking is what they wait for.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, big_null, drop_columns, drop_index, index};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Null: it is no copy. The other one may be gone.
        add_column(m, "volumes", big_null("source_volume")).await?;
        index(m, "volumes", &["snapshot"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_index(m, "volumes", &["snapshot"]).await?;
        drop_columns(m, &[("volumes", "source_volume")]).await
    }
}

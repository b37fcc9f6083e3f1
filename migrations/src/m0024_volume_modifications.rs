//! The last modification of each volume that was ever modified: what it was before, and what it is to be.

use sea_orm_migration::prelude::*;

use crate::portable::{big, big_null, drop_tables, name, table, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let columns = vec![
            big("volume"),
            // `modifying`, `optimizing`, `completed` or `failed`.
            name("state"),
            text_null("status_message"),
            big("original_size_gib"),
            big("target_size_gib"),
            name("original_type"),
            name("target_type"),
            // As in `volumes`: null where the type says it.
            big_null("original_iops"),
            big_null("target_iops"),
            big_null("original_throughput"),
            big_null("target_throughput"),
            // In percent.
            big("progress"),
            big("started_at"),
            big_null("ended_at"),
            // From this generation of its instance on its host has been told of it. Null: of none yet.
            big_null("generation"),
        ];
        table(m, "volume_modifications", columns, &["volume"]).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(m, &["volume_modifications"]).await
    }
}

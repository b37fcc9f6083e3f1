//! The operation journal.

use sea_orm_migration::prelude::*;

use crate::portable::{big, big_null, drop_tables, index, name, name_null, table, text, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let operations = vec![
            big("id"),
            name("kind"),
            big("account"),
            big("instance"),
            // The instance while the operation is under way, null afterwards: the unique key lets one
            // operation at a time work on an instance.
            big_null("active_instance"),
            big("generation"),
            name("status"),
            name("step"),
            text("state"),
            big("attempts"),
            // When the engine looks at it next; while it waits for a report, when that is overdue.
            big("next_at"),
            big("deadline"),
            name_null("lease_owner"),
            big("lease_until"),
            text_null("error"),
            big("created_at"),
            big_null("finished_at"),
        ];
        table(m, "operations", operations, &["id"]).await?;
        index(m, "operations", &["active_instance"], true).await?;
        index(m, "operations", &["status", "next_at"], false).await?;
        index(m, "operations", &["instance"], false).await?;
        index(m, "operations", &["finished_at"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(m, &["operations"]).await
    }
}

//! Commit markers on a database server: a row is there exactly if the rest of its transaction is, by which a
//! program knows the outcome of a commit whose connection was lost. SQLite needs none.

use sea_orm_migration::prelude::*;

use crate::portable::{big, drop_tables, index, table};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        table(m, "commits", vec![big("id"), big("created_at")], &["id"]).await?;
        index(m, "commits", &["created_at"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(m, &["commits"]).await
    }
}

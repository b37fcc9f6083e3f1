//! Snapshots of volumes. Their data is in the store of snapshots, under the names that these rows keep.

use sea_orm_migration::prelude::*;

use crate::portable::{big, big_null, drop_tables, index, name, name_null, table, text, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let snapshots = vec![
            big("id"),
            big("account"),
            // Whose content it is: the volume may be gone.
            big("volume"),
            // The volume's size at the time.
            big("size_gib"),
            // `pending`, `completed` or `error`.
            name("state"),
            text_null("state_message"),
            text("description"),
            big("encrypted"),
            // Every account may make volumes of it.
            big("public"),
            // The SHA-256 of its manifest. Null: it has nothing but zeros, or nobody knows yet.
            name_null("manifest"),
            // The manifest that it is taken over, for as long as it is being taken.
            name_null("base"),
            // What all of its blocks take.
            big_null("bytes"),
            // The host that was told to take it.
            name_null("host"),
            big("created_at"),
            big_null("completed_at"),
            big_null("deleted_at"),
        ];
        table(m, "snapshots", snapshots, &["id"]).await?;
        index(m, "snapshots", &["account", "id"], false).await?;
        index(m, "snapshots", &["volume"], false).await?;
        index(m, "snapshots", &["deleted_at"], false).await?;

        // Accounts that may make volumes of it beside its own.
        let permissions = vec![big("snapshot"), big("account")];
        table(m, "snapshot_permissions", permissions, &["snapshot", "account"]).await?;
        index(m, "snapshot_permissions", &["account"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(m, &["snapshots", "snapshot_permissions"]).await
    }
}

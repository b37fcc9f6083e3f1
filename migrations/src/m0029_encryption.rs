//! Encryption at rest: keys of volumes' and snapshots' data, sealed with the master key; what a host is given such keys
//! with; and what accounts and images want encrypted.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, big_null, drop_columns, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Null: what is not encrypted has none.
        add_column(m, "volumes", text_null("data_key")).await?;
        add_column(m, "snapshots", text_null("data_key")).await?;
        // The public key that a host has told last, which is another after each of its starts. Null: it has none.
        add_column(m, "hosts", text_null("disk_key")).await?;
        // Whether an account's new volumes are encrypted without having been asked for so. Null: they are not.
        add_column(m, "accounts", big_null("encrypts")).await?;
        // Whether the data of an image's manifest is encrypted. Null: it is not.
        add_column(m, "images", big_null("encrypted")).await?;
        // Whether a disk that an image names is to be encrypted. Null: it does not say.
        add_column(m, "image_mappings", big_null("encrypted")).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let added = [
            ("volumes", "data_key"),
            ("snapshots", "data_key"),
            ("hosts", "disk_key"),
            ("accounts", "encrypts"),
            ("images", "encrypted"),
            ("image_mappings", "encrypted"),
        ];
        drop_columns(m, &added).await
    }
}

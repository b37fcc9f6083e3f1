//! Images that are made of snapshots: their disks, who may launch them, and what their owners say of them.

use sea_orm_migration::prelude::*;

use crate::portable::{
    add_columns, big, big_null, drop_columns, drop_tables, index, name, name_null, table, text_null,
};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let columns = vec![
            // The manifest of the root's content in the store of snapshots, where there is no file; `sha256` is empty
            // then. Null as long as it is being made.
            name_null("manifest"),
            // `pending`, `failed` or `disabled`, in place of `state`, whose only name is what programs of before know.
            name_null("phase"),
            text_null("phase_reason"),
            // What it was made of.
            big_null("source_instance"),
            big_null("source_image"),
            // From when on it is deprecated, which may be yet to come.
            big_null("deprecated_at"),
            // `enabled-without-cooldown` or `enabled-with-cooldown`. Null: it may be deregistered.
            name_null("protection"),
            // Until when that holds once it is switched off, where it has a cooldown.
            big_null("protected_until"),
            // `v2.0`: instances ask for tokens unless a launch says otherwise.
            name_null("imds_support"),
        ];
        add_columns(m, "images", columns).await?;

        let mappings = vec![
            big("image"),
            name("device"),
            // What the volume is made of. Null: it is empty.
            big_null("snapshot"),
            // Null: the snapshot's size.
            big_null("size_gib"),
            name("volume_type"),
            big_null("iops"),
            big_null("throughput"),
            big("delete_on_termination"),
        ];
        table(m, "image_mappings", mappings, &["image", "device"]).await?;
        index(m, "image_mappings", &["snapshot"], false).await?;

        // Accounts that may launch it beside its own.
        let permissions = vec![big("image"), big("account")];
        table(m, "image_permissions", permissions, &["image", "account"]).await?;
        index(m, "image_permissions", &["account"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(m, &["image_mappings", "image_permissions"]).await?;
        let added = [
            ("images", "manifest"),
            ("images", "phase"),
            ("images", "phase_reason"),
            ("images", "source_instance"),
            ("images", "source_image"),
            ("images", "deprecated_at"),
            ("images", "protection"),
            ("images", "protected_until"),
            ("images", "imds_support"),
        ];
        drop_columns(m, &added).await
    }
}

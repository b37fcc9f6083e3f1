//! Instance types, images, key pairs; and tags, which any resource can have.

use sea_orm_migration::prelude::*;

use crate::portable::{big, big_null, drop_tables, index, name, table, text};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let types = vec![name("name"), big("vcpus"), big("memory_mib"), big("offered")];
        table(m, "instance_types", types, &["name"]).await?;

        let images = vec![
            big("id"),
            big("account"),
            name("name"),
            text("description"),
            name("state"),
            big("public"),
            name("architecture"),
            name("format"),
            name("sha256"),
            big("size_bytes"),
            big("virtual_bytes"),
            name("root_device"),
            big("created_at"),
            big_null("deregistered_at"),
        ];
        table(m, "images", images, &["id"]).await?;
        index(m, "images", &["account", "name"], false).await?;

        let key_pairs = vec![
            big("id"),
            big("account"),
            name("name"),
            name("kind"),
            name("fingerprint"),
            text("public_key"),
            big("created_at"),
        ];
        table(m, "key_pairs", key_pairs, &["id"]).await?;
        index(m, "key_pairs", &["account", "name"], true).await?;

        // `kind` is the resource type as DescribeTags spells it; `resource` the number of the id.
        let tags = vec![
            big("resource"),
            name("kind"),
            name("key"),
            text("value"),
            big("account"),
        ];
        table(m, "tags", tags, &["resource", "kind", "key"]).await?;
        index(m, "tags", &["account", "kind", "key"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(m, &["instance_types", "images", "key_pairs", "tags"]).await
    }
}

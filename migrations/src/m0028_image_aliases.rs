//! Names of images that an operator gives, which tenants find as public parameters.

use sea_orm_migration::prelude::*;

use crate::portable::{big, drop_tables, index, name, table};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let aliases = vec![
            name("name"),
            big("image"),
            // From 1, and one more each time that it is set.
            big("version"),
            big("modified_at"),
        ];
        table(m, "image_aliases", aliases, &["name"]).await?;
        index(m, "image_aliases", &["image"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(m, &["image_aliases"]).await
    }
}

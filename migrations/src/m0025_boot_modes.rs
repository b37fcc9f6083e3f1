//! How images want to be started.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, drop_columns, name_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // EC2's word for it. Null: by BIOS, as every image was started before.
        add_column(m, "images", name_null("boot_mode")).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_columns(m, &[("images", "boot_mode")]).await
    }
}

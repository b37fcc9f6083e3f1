//! The format of a volume's file, as the program that has bound it to its host wants it made.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, drop_columns, name_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // A name of `DiskFormat`. Null: no host has it, or a program of before has bound it, which made raw what is plain
        // and of a snapshot and was no root, and qcow2 all else.
        add_column(m, "volumes", name_null("format")).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_columns(m, &[("volumes", "format")]).await
    }
}

//! The order of an account's tags and rules as indexes, so that a page of them is read where it begins, and
//! costs nothing of what other accounts have.

use sea_orm_migration::prelude::*;

use crate::portable::{Name, index};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        index(m, "tags", &["account", "resource", "kind", "key"], false).await?;
        index(m, "security_group_rules", &["account", "id"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for (name, table) in [
            ("tags__account__resource__kind__key", "tags"),
            ("security_group_rules__account__id", "security_group_rules"),
        ] {
            m.drop_index(Index::drop().name(name).table(Name(table)).to_owned())
                .await?;
        }
        Ok(())
    }
}

//! Indices for listings: interfaces by their account, instances by the time of their launch.

use sea_orm_migration::prelude::*;

use crate::portable::{Name, index};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        index(m, "interfaces", &["account", "id"], false).await?;
        index(m, "instances", &["account", "created_at", "reservation"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for (table, name) in [
            ("interfaces", "interfaces__account__id"),
            ("instances", "instances__account__created_at__reservation"),
        ] {
            let mut drop = Index::drop();
            drop.name(name).table(Name(table));
            m.drop_index(drop).await?;
        }
        Ok(())
    }
}

//! User data sealed with the master key, beside `user_data`, where it was kept as it came and which the next
//! start empties; and a way to the public addresses that an account has.

use sea_orm_migration::prelude::*;

use crate::portable::{Name, add_column, drop_columns, index, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        add_column(m, "instances", text_null("sealed_user_data")).await?;
        index(m, "interfaces", &["account", "public_ip"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let mut addresses = Index::drop();
        addresses
            .name("interfaces__account__public_ip")
            .table(Name("interfaces"));
        m.drop_index(addresses).await?;
        drop_columns(m, &[("instances", "sealed_user_data")]).await
    }
}

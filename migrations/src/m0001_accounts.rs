//! Settings of the cloud; accounts with their quotas; users and access keys; client tokens; the audit log.
//!
//! An access key's `secret` is sealed with the master key: SigV4 needs the secret itself, so it can't be a
//! hash.

use sea_orm_migration::prelude::*;

use crate::portable::{big, drop_tables, index, name, name_null, table, text, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        table(m, "settings", vec![name("name"), text("value")], &["name"]).await?;

        let accounts = vec![
            big("id"),
            name("name"),
            big("instances_used"),
            big("instances_max"),
            big("vcpus_used"),
            big("vcpus_max"),
            big("created_at"),
        ];
        table(m, "accounts", accounts, &["id"]).await?;
        index(m, "accounts", &["name"], true).await?;

        let users = vec![
            name("id"),
            big("account"),
            name("name"),
            name("role"),
            big("enabled"),
            big("created_at"),
        ];
        table(m, "users", users, &["id"]).await?;
        index(m, "users", &["account", "name"], true).await?;

        let keys = vec![
            name("id"),
            name("user_id"),
            big("account"),
            text("secret"),
            big("enabled"),
            big("created_at"),
        ];
        table(m, "access_keys", keys, &["id"]).await?;
        index(m, "access_keys", &["user_id"], false).await?;

        let tokens = vec![
            big("account"),
            name("operation"),
            name("token"),
            name("request_hash"),
            text("result"),
            big("created_at"),
        ];
        table(m, "client_tokens", tokens, &["account", "operation", "token"]).await?;
        index(m, "client_tokens", &["created_at"], false).await?;

        let audit = vec![
            big("id"),
            big("at"),
            big("account"),
            name("user_name"),
            name("action"),
            name_null("resource"),
            name("outcome"),
            name("request_id"),
            text_null("detail"),
        ];
        table(m, "audit_log", audit, &["id"]).await?;
        index(m, "audit_log", &["account", "at"], false).await?;
        index(m, "audit_log", &["at"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(
            m,
            &[
                "settings",
                "accounts",
                "users",
                "access_keys",
                "client_tokens",
                "audit_log",
            ],
        )
        .await
    }
}

//! Why each host that is there takes no launches for now.

use sea_orm_migration::prelude::*;

use crate::portable::{add_columns, drop_columns, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // As the host has told with its last heartbeat; null where it is ready.
        let columns = vec![text_null("not_ready_reason"), text_null("not_ready_cure")];
        add_columns(m, "hosts", columns).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let columns = [("hosts", "not_ready_reason"), ("hosts", "not_ready_cure")];
        drop_columns(m, &columns).await
    }
}

//! Where the data of volumes is, and what hosts were told of attachments: what it takes for volumes to be attached to
//! instances that run.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, big_null, drop_columns};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // When its host has confirmed that it has the data. Null before: the first that gets it makes it, empty.
        add_column(m, "volumes", big_null("made_at")).await?;
        // From this generation of its instance on its host has been told of the attachment as it is. Null: of none yet.
        add_column(m, "volume_attachments", big_null("generation")).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_columns(m, &[("volumes", "made_at"), ("volume_attachments", "generation")]).await
    }
}

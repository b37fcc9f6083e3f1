//! Where volumes' data is, in a store that hosts share too, and which of those hosts reach it. Beside that an index by
//! which an account's snapshots that are being taken are counted without a look at all that it has.

use sea_orm_migration::prelude::*;

use crate::portable::{add_column, drop_columns, drop_index, index, name_null, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // A name of `VolumeStore`. Null: a file of one host.
        add_column(m, "volumes", name_null("store")).await?;
        // The cloud's pool of Ceph's, `FSID/POOL`, as the host has told it last. Null: it reaches none, or another.
        add_column(m, "hosts", text_null("rbd")).await?;
        index(m, "snapshots", &["account", "state"], false).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_index(m, "snapshots", &["account", "state"]).await?;
        drop_columns(m, &[("volumes", "store"), ("hosts", "rbd")]).await
    }
}

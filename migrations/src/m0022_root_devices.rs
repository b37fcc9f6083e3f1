//! The names of root devices: those of EC2's images. Programs of before have named them after the guest's bus.

use sea_orm_migration::prelude::*;

use crate::rows_of_earlier;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        rows_of_earlier::rename_roots(m.get_connection()).await
    }

    /// A program of before shows the one name as it does the other.
    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}

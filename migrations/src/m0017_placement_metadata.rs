//! Hosts hear again of the instances in placement groups: what those can read about themselves says so now.

use sea_orm_migration::prelude::*;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// The instances that are meant.
const MEMBERS: &str = "placement_group IS NOT NULL AND terminated_at IS NULL";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Once more than needed does no harm: a revision only has to grow.
        let revise =
            format!("UPDATE instances SET metadata_revision = metadata_revision + 1 WHERE {MEMBERS}");
        let push = format!(
            "INSERT INTO metadata_pushes (instance) SELECT id FROM instances WHERE {MEMBERS} \
             AND NOT EXISTS (SELECT 1 FROM metadata_pushes WHERE metadata_pushes.instance = instances.id)"
        );
        m.get_connection().execute_unprepared(&revise).await?;
        m.get_connection().execute_unprepared(&push).await.map(drop)
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}

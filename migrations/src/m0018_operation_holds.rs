//! Operations on any resource: what each works on, and what the open ones hold, one of them at a time by a
//! unique key. `instance` and `active_instance` are kept in step for a program of before.

use sea_orm_migration::prelude::*;

use crate::portable::{add_columns, big, big_null, drop_columns, drop_tables, index, name, name_null, table};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Only an instance could be a subject before.
const SUBJECTS: &str = "UPDATE operations SET subject_kind = 'instance', subject = instance, \
    held = CASE WHEN status = 'active' THEN 1 ELSE 0 END WHERE subject IS NULL";

const HOLDS: &str = "INSERT INTO operation_holds (kind, resource, operation) \
    SELECT 'instance', instance, id FROM operations WHERE status = 'active' \
    AND NOT EXISTS (SELECT 1 FROM operation_holds WHERE operation_holds.kind = 'instance' \
    AND operation_holds.resource = operations.instance)";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let columns = vec![
            name_null("subject_kind"),
            big_null("subject"),
            // How many resources it holds; 0 once it has ended. A program of before leaves it as it is, which
            // tells what that one has begun or ended.
            big_null("held"),
        ];
        add_columns(m, "operations", columns).await?;
        let holds = vec![name("kind"), big("resource"), big("operation")];
        table(m, "operation_holds", holds, &["kind", "resource"]).await?;
        index(m, "operation_holds", &["operation"], false).await?;
        m.get_connection().execute_unprepared(SUBJECTS).await?;
        m.get_connection().execute_unprepared(HOLDS).await.map(drop)
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(m, &["operation_holds"]).await?;
        let columns = ["held", "subject", "subject_kind"];
        drop_columns(m, &columns.map(|column| ("operations", column))).await
    }
}

//! The subset of SQL that SQLite, PostgreSQL, MySQL and MariaDB share, as columns. Ids and times are
//! BIGINT made in the program; addresses are texts of 32 hexadecimal digits (BIGINT in the tables of before m0020);
//! booleans are BIGINT 0 or 1 (no driver differs on that);
//! JSON is text and never queried; names that are keys are VARCHAR, at most 255. Texts are compared byte by
//! byte everywhere. MariaDB and MySQL commit with every change of the schema, so that one which a killed
//! program has made already is found and left alone.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{DbBackend, Statement},
};

/// A name of a table or a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name(pub(crate) &'static str);

impl Iden for Name {
    fn unquoted(&self) -> &str {
        self.0
    }
}

/// A BIGINT that is always there.
pub(crate) fn big(name: &'static str) -> ColumnDef {
    ColumnDef::new(Name(name)).big_integer().not_null().take()
}

/// A BIGINT that may be absent.
pub(crate) fn big_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(Name(name)).big_integer().null().take()
}

/// A short text that is always there: at most 255 characters, usable as a key.
pub(crate) fn name(name: &'static str) -> ColumnDef {
    ColumnDef::new(Name(name)).string_len(255).not_null().take()
}

/// A short text that may be absent.
pub(crate) fn name_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(Name(name)).string_len(255).null().take()
}

/// A text of any length that is always there.
pub(crate) fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(Name(name)).text().not_null().take()
}

/// A text of any length that may be absent.
pub(crate) fn text_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(Name(name)).text().null().take()
}

/// Creates a table with a primary key.
pub(crate) async fn table(
    manager: &SchemaManager<'_>,
    table: &'static str,
    columns: Vec<ColumnDef>,
    key: &[&'static str],
) -> Result<(), DbErr> {
    let backend = manager.get_database_backend();
    let mut create = Table::create().table(Name(table)).if_not_exists().take();
    if backend == DbBackend::MySql {
        create
            .engine("InnoDB")
            .character_set("utf8mb4")
            .collate(collation(manager).await?);
    }
    for column in columns {
        create.col(suited(column, backend));
    }
    let mut primary = Index::create();
    for column in key {
        primary.col(Name(column));
    }
    manager
        .create_table(create.primary_key(&mut primary).take())
        .await
}

/// A column as this database wants it.
fn suited(mut column: ColumnDef, backend: DbBackend) -> ColumnDef {
    let text = matches!(column.get_column_type(), Some(ColumnType::Text));
    let name = matches!(column.get_column_type(), Some(ColumnType::String(_)));
    if backend == DbBackend::MySql && text {
        // TEXT ends at 64 KiB.
        column.custom(Name("mediumtext"));
    }
    if backend == DbBackend::Postgres && (text || name) {
        column.extra("COLLATE \"C\"");
    }
    column
}

/// The collation that compares bytes and nothing else (`utf8mb4_bin` takes "a" and "a " for the same key).
async fn collation(manager: &SchemaManager<'_>) -> Result<&'static str, DbErr> {
    let sql = "SELECT COUNT(*) AS found FROM information_schema.COLLATIONS WHERE COLLATION_NAME = ?";
    Ok(if count(manager, sql, &["utf8mb4_nopad_bin"]).await? > 0 {
        "utf8mb4_nopad_bin"
    } else {
        "utf8mb4_0900_bin"
    })
}

async fn count(manager: &SchemaManager<'_>, sql: &str, values: &[&str]) -> Result<i64, DbErr> {
    let values = values.iter().map(|value| Value::from(*value));
    let ask = Statement::from_sql_and_values(manager.get_database_backend(), sql, values);
    match manager.get_connection().query_one_raw(ask).await? {
        Some(row) => row.try_get("", "found"),
        None => Ok(0),
    }
}

/// Adds columns to a table, those that it does not have yet, one a statement, since SQLite takes no more.
/// What is added may be absent: the rows that are there have nothing to put into it.
pub(crate) async fn add_columns(
    manager: &SchemaManager<'_>,
    table: &'static str,
    columns: Vec<ColumnDef>,
) -> Result<(), DbErr> {
    let backend = manager.get_database_backend();
    for column in columns {
        if backend == DbBackend::MySql {
            let sql = "SELECT COUNT(*) AS found FROM information_schema.COLUMNS \
                       WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND COLUMN_NAME = ?";
            if count(manager, sql, &[table, &column.get_column_name()]).await? > 0 {
                continue;
            }
        }
        let mut alter = Table::alter();
        alter.table(Name(table)).add_column(suited(column, backend));
        manager.alter_table(alter).await?;
    }
    Ok(())
}

/// Creates an index named after its table and columns.
pub(crate) async fn index(
    manager: &SchemaManager<'_>,
    table: &'static str,
    columns: &[&'static str],
    unique: bool,
) -> Result<(), DbErr> {
    let name = format!("{table}__{}", columns.join("__"));
    if manager.get_database_backend() == DbBackend::MySql && has_index(manager, table, &name).await? {
        return Ok(());
    }
    let mut create = Index::create();
    create.name(name).table(Name(table));
    for column in columns {
        create.col(Name(column));
    }
    if unique {
        create.unique();
    }
    manager.create_index(create.take()).await
}

/// Drops an index that [`index`] has created, where it is still there.
pub(crate) async fn drop_index(
    manager: &SchemaManager<'_>,
    table: &'static str,
    columns: &[&'static str],
) -> Result<(), DbErr> {
    let name = format!("{table}__{}", columns.join("__"));
    if manager.get_database_backend() == DbBackend::MySql && !has_index(manager, table, &name).await? {
        return Ok(());
    }
    let mut drop = Index::drop();
    drop.name(name).table(Name(table));
    manager.drop_index(drop).await
}

/// Whether a table has an index, on MariaDB and MySQL.
async fn has_index(manager: &SchemaManager<'_>, table: &str, name: &str) -> Result<bool, DbErr> {
    let sql = "SELECT COUNT(*) AS found FROM information_schema.STATISTICS \
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND INDEX_NAME = ?";
    Ok(count(manager, sql, &[table, name]).await? > 0)
}

/// Adds one column. (Several at once are not everybody's.)
pub(crate) async fn add_column(
    manager: &SchemaManager<'_>,
    table: &'static str,
    column: ColumnDef,
) -> Result<(), DbErr> {
    add_columns(manager, table, vec![column]).await
}

/// Drops columns.
pub(crate) async fn drop_columns(
    manager: &SchemaManager<'_>,
    columns: &[(&'static str, &'static str)],
) -> Result<(), DbErr> {
    for (table, column) in columns {
        let alter = Table::alter().table(Name(table)).drop_column(Name(column)).take();
        manager.alter_table(alter).await?;
    }
    Ok(())
}

/// Drops tables, newest first.
pub(crate) async fn drop_tables(manager: &SchemaManager<'_>, tables: &[&'static str]) -> Result<(), DbErr> {
    for table in tables.iter().rev() {
        manager
            .drop_table(Table::drop().table(Name(table)).if_exists().take())
            .await?;
    }
    Ok(())
}

//! Opens the database: how SQLite is set up, and the migrations.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cumulet_domain::Result;
use cumulet_migrations::{Migrator, MigratorTrait};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};

use super::{Store, failed, writer::Writer};

/// Where the database is and how it is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The SQLite file; made if it is not there.
    pub path: PathBuf,
    /// Connections for reads.
    pub readers: u32,
}

/// Opens the database, bringing its schema up to date first.
///
/// # Errors
/// When it can't be opened, or its schema can't be migrated (it is newer than this program).
pub async fn connect(options: &Options) -> Result<Store> {
    let url = format!("sqlite://{}?mode=rwc", options.path.display());
    let writer = open(&url, 1).await?;
    Migrator::up(&writer, None).await.map_err(failed)?;
    let reader = open(&url, options.readers.max(1)).await?;
    Ok(Store {
        reader,
        writer: Arc::new(Writer::start(writer)),
        keep: true,
    })
}

/// The migrations, oldest first, and whether each has been applied.
///
/// # Errors
/// When the database can't be opened.
pub async fn schema(options: &Options) -> Result<Vec<(String, bool)>> {
    let url = format!("sqlite://{}?mode=rwc", options.path.display());
    let connection = open(&url, 1).await?;
    let pending = Migrator::get_pending_migrations(&connection)
        .await
        .map_err(failed)?;
    let applied = Migrator::get_applied_migrations(&connection)
        .await
        .map_err(failed)?;
    let applied = applied
        .iter()
        .map(|migration| (migration.name().to_owned(), true));
    let pending = pending
        .iter()
        .map(|migration| (migration.name().to_owned(), false));
    Ok(applied.chain(pending).collect())
}

/// WAL, so that reads never wait for the writer; FULL, so that what is acknowledged survives power loss.
async fn open(url: &str, connections: u32) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(connections)
        .connect_timeout(Duration::from_secs(10))
        .acquire_timeout(Duration::from_secs(10))
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|sqlite| {
            sqlite
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", "FULL")
                .pragma("busy_timeout", "10000")
                .pragma("foreign_keys", "ON")
                .pragma("cache_size", "-8192")
                .pragma("temp_store", "MEMORY")
                .statement_cache_capacity(512)
        });
    let connection = Database::connect(options).await.map_err(failed)?;
    connection.execute_unprepared("select 1").await.map_err(failed)?;
    Ok(connection)
}

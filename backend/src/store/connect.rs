//! Opens the database, and brings its schema up to date.

use std::{path::PathBuf, sync::Arc};

use cumulet_domain::Result;
use cumulet_migrations::{Migrator, MigratorTrait};
use sea_orm::{Database, DatabaseConnection, DbBackend, ProxyDatabaseTrait};

use super::{
    Store, failed,
    sqlite::{Readers, Savepoints, WriteConnection},
    writer::Writer,
};

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
    let connection = Arc::new(WriteConnection::open(&options.path)?);
    let savepoints = proxy(Savepoints(connection.clone())).await?;
    migrate(&connection, &savepoints).await?;
    Ok(Store {
        reader: proxy(Readers::open(&options.path, options.readers)?).await?,
        writer: Arc::new(Writer::start(connection, savepoints)?),
        keep: true,
        companion: None,
    })
}

/// All that are pending, or none of them.
async fn migrate(connection: &WriteConnection, savepoints: &DatabaseConnection) -> Result<()> {
    connection.begin()?;
    let done = Migrator::up(savepoints, None).await.map_err(failed);
    match done.and_then(|()| connection.intact()) {
        Ok(()) => connection.commit(),
        Err(error) => {
            connection.rollback();
            Err(error)
        }
    }
}

/// A connection of sea-orm over one of ours.
async fn proxy(database: impl ProxyDatabaseTrait + 'static) -> Result<DatabaseConnection> {
    let database: Box<dyn ProxyDatabaseTrait> = Box::new(database);
    Database::connect_proxy(DbBackend::Sqlite, Arc::new(database))
        .await
        .map_err(failed)
}

/// A connection of its own, for what is to be read as of one moment: a transaction that is begun on it and
/// only reads holds nobody up. (Those of [`Store::read`] may be many, and have no transactions.)
///
/// # Errors
/// When the database can't be opened.
pub async fn snapshots(options: &Options) -> Result<DatabaseConnection> {
    proxy(Savepoints(Arc::new(WriteConnection::open(&options.path)?))).await
}

/// The migrations, oldest first, and whether each has been applied.
///
/// # Errors
/// When the database can't be opened.
pub async fn schema(options: &Options) -> Result<Vec<(String, bool)>> {
    let connection = Arc::new(WriteConnection::open(&options.path)?);
    let connection = proxy(Savepoints(connection)).await?;
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

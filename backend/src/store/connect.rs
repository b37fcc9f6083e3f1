//! Opens the database, and brings its schema up to date.

use std::{path::Path, sync::Arc};

use cumulet_domain::Result;
use cumulet_migrations::{Migrator, MigratorTrait};
use sea_orm::{Database, DatabaseConnection, DbBackend, ProxyDatabaseTrait};

use super::{
    Location, Store, Writer, failed, newer,
    server::{self, Server},
    sqlite::{Readers, Savepoints, WriteConnection},
    writer,
};

/// Where the database is and how it is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub location: Location,
    /// Connections for reads; on a server, as many again for transactions.
    pub readers: u32,
}

impl Options {
    /// For a SQLite file.
    pub fn file(path: impl Into<std::path::PathBuf>, readers: u32) -> Self {
        Options {
            location: Location::Sqlite(path.into()),
            readers,
        }
    }
}

/// Opens the database, bringing its schema up to date first.
///
/// # Errors
/// When it can't be opened, or its schema can't be migrated (it is newer than this program).
pub async fn connect(options: &Options) -> Result<Store> {
    let (reader, writer) = match &options.location {
        Location::Sqlite(path) => file(path, options.readers).await?,
        location => {
            server::migrate(location).await?;
            let (server, reader) = Server::open(location, options.readers).await?;
            (reader, Writer::Server(Arc::new(server)))
        }
    };
    Ok(Store {
        reader,
        writer,
        keep: true,
        companion: None,
    })
}

async fn file(path: &Path, readers: u32) -> Result<(DatabaseConnection, Writer)> {
    let connection = Arc::new(WriteConnection::open(path)?);
    let savepoints = proxy(Savepoints(connection.clone())).await?;
    migrate(&connection, &savepoints).await?;
    let reader = proxy(Readers::open(path, readers)?).await?;
    let writer = writer::Writer::start(connection, savepoints)?;
    Ok((reader, Writer::Sqlite(Arc::new(writer))))
}

/// All that are pending, or none of them.
pub(super) async fn migrate(connection: &WriteConnection, savepoints: &DatabaseConnection) -> Result<()> {
    connection.begin()?;
    let done = Migrator::up(savepoints, None).await.map_err(newer);
    match done.and_then(|()| connection.intact()) {
        Ok(()) => connection.commit(),
        Err(error) => {
            connection.rollback();
            Err(error)
        }
    }
}

/// A connection of sea-orm over one of ours.
pub(super) async fn proxy(database: impl ProxyDatabaseTrait + 'static) -> Result<DatabaseConnection> {
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
    match &options.location {
        Location::Sqlite(path) => proxy(Savepoints(Arc::new(WriteConnection::open(path)?))).await,
        location => server::snapshots(location).await,
    }
}

/// The migrations, oldest first, and whether each has been applied.
///
/// # Errors
/// When the database can't be opened.
pub async fn schema(options: &Options) -> Result<Vec<(String, bool)>> {
    match &options.location {
        Location::Sqlite(path) => {
            let connection = proxy(Savepoints(Arc::new(WriteConnection::open(path)?))).await?;
            server::listed(&connection).await.map_err(newer)
        }
        location => server::schema(location).await,
    }
}

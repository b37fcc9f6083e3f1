//! The in-memory database of a simulation, for one thread: a transaction runs at once where it is asked for,
//! and begins, ends and is undone without waiting, so that the one connection serves reads too. What a disk
//! or a server may do to a transaction is handed in.

use std::{fmt, sync::Arc};

use cumulet_domain::Result;
use futures::future::BoxFuture;

use super::{
    Store,
    connect::{migrate, proxy},
    sqlite::{Savepoints, WriteConnection},
    writer::Writer,
};

use crate::boxed;

/// Hooks around each transaction.
pub trait TransactionHooks: fmt::Debug + Send + Sync {
    /// Before it begins. An error is its answer: nothing of it was done.
    fn before(&self) -> BoxFuture<'_, Result<()>>;

    /// After it was committed. An error is its answer, though all of it was done.
    fn after(&self) -> BoxFuture<'_, Result<()>>;
}

/// An empty database whose schema is up to date, to begin from.
#[derive(Debug)]
pub struct Template(WriteConnection);

impl Template {
    /// Makes the schema.
    ///
    /// # Errors
    /// Those of the database.
    #[boxed]
    pub async fn make() -> Result<Self> {
        let connection = Arc::new(WriteConnection::in_memory(None)?);
        migrate(&connection, &proxy(Savepoints(connection.clone())).await?, None).await?;
        Ok(Template(WriteConnection::in_memory(Some(&connection))?))
    }
}

/// Opens a database of its own, which is gone with its last handle.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn connect_inline(template: &Template, hooks: Arc<dyn TransactionHooks>) -> Result<Store> {
    let connection = Arc::new(WriteConnection::in_memory(Some(&template.0))?);
    let savepoints = proxy(Savepoints(connection.clone())).await?;
    Ok(Store {
        reader: savepoints.clone(),
        writer: super::Writer::Sqlite(Arc::new(Writer::inline(connection, savepoints, hooks))),
        keep: true,
        rows: 0,
        participant: None,
        spent: None,
    })
}

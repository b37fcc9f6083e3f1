//! The database: one handle for reads, one writer for transactions, and functions over both, one table
//! or one question a file.

pub mod batch;
mod connect;
pub mod fixed;
pub mod groups;
pub mod instances;
pub mod networks;
pub mod placement;
pub mod settings;
mod sqlite;
pub mod tags;
mod versions;
mod writer;

use std::sync::Arc;

use cumulet_domain::{Error, Result, account::AccountId};
use futures::future::BoxFuture;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait, Select, SqlErr};

pub use connect::{Options, connect, schema, snapshots};
pub use versions::Touches;

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: DatabaseConnection,
    writer: Arc<writer::Writer>,
    keep: bool,
    companion: Option<Arc<dyn Companion>>,
}

/// Something that goes into the transaction of whatever is written through a handle.
pub trait Companion: std::fmt::Debug + Send + Sync {
    /// Writes it, after the work itself has succeeded and in the same transaction.
    fn write<'t>(&'t self, txn: &'t DatabaseTransaction) -> BoxFuture<'t, Result<()>>;
}

impl Store {
    /// The connections for reads. What was committed before is seen.
    pub fn read(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// A number for those who keep what they have read of an account's instances: as long as it is the one
    /// from before the read, a new read would find the same, but for what time does. Other processes (the
    /// operator's commands) are not counted: of what they write, only that the image of ended instances
    /// has been deleted is shown with an instance.
    pub fn version(&self, account: AccountId) -> u64 {
        self.writer.versions().of(account)
    }

    /// A handle whose transactions run in full and are then undone, successful or not: what DryRun
    /// needs, every check and no change.
    pub fn rehearsal(&self) -> Store {
        Store {
            keep: false,
            companion: None,
            ..self.clone()
        }
    }

    /// A handle whose transactions take `companion` along.
    pub fn with(&self, companion: Arc<dyn Companion>) -> Store {
        Store {
            companion: Some(companion),
            ..self.clone()
        }
    }

    /// Runs `work` in a transaction and commits it durably before it returns. When `work` fails nothing
    /// of it remains. Transactions that come together may share one commit, so `work` should be short
    /// and wait for nothing but the database.
    ///
    /// # Errors
    /// What `work` answers, or `Unavailable` when the commit's outcome is not success.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        self.write_touching(Touches::Everything, work).await
    }

    /// Like [`Store::write`], for `work` that changes no more of instances than it declares, so that what
    /// is kept of other ones stays good.
    ///
    /// # Errors
    /// Those of [`Store::write`].
    pub async fn write_touching<T, F>(&self, touches: Touches, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let Some(companion) = self.companion.clone() else {
            return self.writer.run(self.keep, touches, work).await;
        };
        let both = self.writer.run(self.keep, touches, move |txn| {
            Box::pin(async move {
                let value = work(txn).await?;
                companion.write(txn).await?;
                Ok(value)
            })
        });
        both.await
    }
}

/// A database error as the domain knows it.
#[allow(clippy::needless_pass_by_value)] // the shape that `map_err` wants
pub fn failed(error: DbErr) -> Error {
    match &error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Error::Unavailable(error.to_string()),
        _ => Error::internal(&error),
    }
}

/// Whether a statement failed because a unique key is taken.
pub fn is_taken(error: &DbErr) -> bool {
    sqlite::is_taken(error) || matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

/// The one column that a query selects, of every row. (`into_tuple`, which says the same, is disallowed
/// elsewhere: it mixes columns up where there are more than one, see [`sqlite`].)
///
/// # Errors
/// Those of the database.
#[allow(clippy::disallowed_methods)] // one column, by the type
pub async fn column<E: EntityTrait>(query: Select<E>, conn: &impl ConnectionTrait) -> Result<Vec<i64>> {
    query.into_tuple().all(conn).await.map_err(failed)
}

/// The one column that a query selects, of the first row.
///
/// # Errors
/// Those of the database.
#[allow(clippy::disallowed_methods)] // one column, by the type
pub async fn first<E: EntityTrait>(query: Select<E>, conn: &impl ConnectionTrait) -> Result<Option<i64>> {
    query.into_tuple().one(conn).await.map_err(failed)
}

//! Participants in transactions: who writes something into each, whatever it is for.

use cumulet_domain::Result;
use futures::future::BoxFuture;
use sea_orm::DatabaseTransaction;

/// A participant in every transaction that is written through a handle, as the audit log's entry is.
pub trait Participant: std::fmt::Debug + Send + Sync {
    /// Writes it, after the work itself has succeeded and in the same transaction.
    fn write<'t>(&'t self, txn: &'t DatabaseTransaction) -> BoxFuture<'t, Result<()>>;

    /// Hears that a transaction begins which may have to be run again.
    fn begun(&self) {}

    /// Hears that such a transaction was undone; it may begin again.
    fn undone(&self) {}
}

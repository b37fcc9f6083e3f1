//! The frame of a call that asks for an operation: the crash points that it passes, its one transaction, and whom it
//! wakes. What may be refused before anything is read is refused before it.

use cumulet_domain::{Result, crash_point};
use cumulet_store::{Invalidates, Store};
use futures::future::BoxFuture;
use sea_orm::DatabaseTransaction;

use crate::RequestContext;

impl RequestContext {
    /// Does the work in one transaction of `store`, which is the context's or one made from it, for the operation of
    /// this name; when it is kept, whoever carries operations out is woken.
    ///
    /// # Errors
    /// Those of the work and of [`Store::write`].
    pub async fn ask<T, F>(
        &self,
        operation: &'static str,
        store: &Store,
        invalidates: Invalidates,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        crash_point!(operation, "asked");
        let write = store.write_with(invalidates, move |txn| {
            Box::pin(async move {
                let made = work(txn).await?;
                crash_point!(operation, "written");
                Ok(made)
            })
        });
        let made = write.await?;
        crash_point!(operation, "committed");
        self.wake.now();
        Ok(made)
    }
}

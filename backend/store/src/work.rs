//! Type-erased work of a transaction, so that the engine that begins, repeats and commits transactions is
//! compiled once instead of once for each call site. `Store::write` packs and unpacks it.

use std::{any::Any, marker::PhantomData};

use cumulet_domain::{Error, Result};
use futures::future::BoxFuture;
use sea_orm::DatabaseTransaction;

/// What a transaction answers, until its caller says which type it is.
pub(super) type Value = Box<dyn Any + Send>;

/// What is done in a transaction.
pub(super) trait Work: Send {
    /// The same once more, for a transaction that may have to be run again.
    fn again(&self) -> Box<dyn Work>;

    /// Does it.
    fn run<'t>(self: Box<Self>, txn: &'t DatabaseTransaction) -> BoxFuture<'t, Result<Value>>;
}

/// The work of a closure.
struct Typed<T, F> {
    work: F,
    answers: PhantomData<fn() -> T>,
}

impl<T, F> Work for Typed<T, F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
{
    fn again(&self) -> Box<dyn Work> {
        untyped(self.work.clone())
    }

    fn run<'t>(self: Box<Self>, txn: &'t DatabaseTransaction) -> BoxFuture<'t, Result<Value>> {
        Box::pin(async move { Ok(Box::new((self.work)(txn).await?) as Value) })
    }
}

/// Takes the types off a closure.
pub(super) fn untyped<T, F>(work: F) -> Box<dyn Work>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
{
    Box::new(Typed {
        work,
        answers: PhantomData,
    })
}

/// The answer as what it is.
///
/// # Errors
/// When it is something else, which would be this module's fault.
pub(super) fn typed<T: 'static>(value: Value) -> Result<T> {
    let wrong = |_| Error::Internal("a transaction answered another type".into());
    value.downcast().map(|value| *value).map_err(wrong)
}

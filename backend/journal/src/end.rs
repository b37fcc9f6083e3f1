//! The end of an operation: one transaction, in which it is finished, what it holds is free, and what its end
//! changes is written. Reports and steps call it.

use cumulet_domain::{Result, crash_point};
use sea_orm::DatabaseTransaction;

use super::{Context, End, How, Operation, rows::finish};
use cumulet_store::entity::operation::Model;

/// Ends an operation; false where it had ended already, and nothing has changed.
pub async fn end<O: Operation>(cx: &O::Cx, row: Model, how: How) -> Result<bool> {
    let end = End {
        now: cx.now(),
        next: cx.next_id(),
        how,
    };
    let failed = end.how != How::Done;
    let write = cx
        .store()
        .write(move |txn| Box::pin(async move { end_in::<O>(txn, &row, &end).await }));
    let ended = write.await?;
    if ended {
        O::Cx::registry().counts().end(O::NAME, failed);
    }
    if !failed {
        crash_point!(O::NAME, "ended");
    }
    cx.wake();
    Ok(ended)
}

/// Like [`end`], in a transaction that there is already.
pub async fn end_in<O: Operation>(txn: &DatabaseTransaction, row: &Model, end: &End) -> Result<bool> {
    // The subject first, then its operation: as those who ask for something do.
    O::lock(txn, row).await?;
    let error = match &end.how {
        How::Failed(failure) => Some(failure.message.clone()),
        How::Done | How::Superseded => None,
    };
    if !finish(txn, row.id.0, error, end.now).await? {
        return Ok(false);
    }
    O::ended(txn, row, end).await?;
    if end.how == How::Done {
        crash_point!(O::NAME, "closed");
    }
    Ok(true)
}

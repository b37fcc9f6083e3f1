//! Refused calls in the audit log. Those of one access key that are refused in the same way within a minute
//! are one row with a count: the first one's row, since the others tell nothing more than that they came.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{Result, time::Timestamp};
use cumulet_store::{Invalidates, entity::audit_event, failed};
use sea_orm::{ColumnTrait, EntityTrait, ExprTrait, QueryFilter, sea_query::Expr};

use crate::{
    RequestContext,
    audit_log::{AuditLogEntry, insert},
    boxed,
};

/// Milliseconds after its first refusal that a row counts others.
const MINUTE: i64 = 60_000;

/// Rows that are remembered; beyond, those whose minute is over are forgotten.
const MANY: usize = 4096;

/// What refusals have in common that are counted together: key, action, outcome.
type Alike = (String, String, String);

/// The rows that count now. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<HashMap<Alike, Counting>>>);

#[derive(Clone, Copy)]
struct Counting {
    row: i64,
    since: Timestamp,
}

impl Refusals {
    fn rows(&self) -> MutexGuard<'_, HashMap<Alike, Counting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row that counts a refusal of this kind now; from now on, where there is none, it is `new`.
    fn row(&self, alike: Alike, new: i64, now: Timestamp) -> i64 {
        let mut rows = self.rows();
        let is_over = |counting: &Counting| !(0..MINUTE).contains(&(now.0 - counting.since.0));
        if rows.len() >= MANY {
            rows.retain(|_, counting| !is_over(counting));
        }
        let counting = rows.entry(alike).or_insert(Counting { row: new, since: now });
        if is_over(counting) {
            *counting = Counting { row: new, since: now };
        }
        counting.row
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals")
    }
}

/// Writes down that a call with this access key was refused.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn refused(cx: &RequestContext, access_key_id: &str, entry: AuditLogEntry) -> Result<()> {
    count(cx, access_key_id, entry, true).await
}

/// The same for a call that was one too many. Only the first one of a minute is written, since each of the
/// others has to cost next to nothing: its row says that there were some.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn throttled(cx: &RequestContext, access_key_id: &str, entry: AuditLogEntry) -> Result<()> {
    count(cx, access_key_id, entry, false).await
}

async fn count(cx: &RequestContext, access_key_id: &str, entry: AuditLogEntry, each: bool) -> Result<()> {
    let now = cx.now();
    let alike = (
        access_key_id.to_owned(),
        entry.action.clone(),
        entry.outcome.clone(),
    );
    let row = entry.row(&cx.rng, now);
    let first = cx.refusals().row(alike, row.id, now);
    if first != row.id && !each {
        return Ok(());
    }
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            // Also when the first one is on its way: its row may not be there yet.
            if first != row.id && again(txn, first).await? {
                return Ok(());
            }
            insert(txn, row).await
        })
    });
    write.await
}

/// Counts one more in a row; whether it is there.
async fn again(txn: &impl sea_orm::ConnectionTrait, row: i64) -> Result<bool> {
    use audit_event::Column as C;
    let update = audit_event::Entity::update_many()
        .col_expr(C::Repeats, Expr::cust("COALESCE(repeats, 0)").add(1))
        .filter(C::Id.eq(row));
    Ok(update.exec(txn).await.map_err(failed)?.rows_affected == 1)
}

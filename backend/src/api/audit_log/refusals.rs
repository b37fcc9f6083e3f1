//! Refused calls in the audit log. Those of one access key that are refused in the same way within a minute
//! are one row with a count: the first one's row, since the others tell nothing more than that they came.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{Result, time::Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, ExprTrait, QueryFilter, sea_query::Expr};

use super::{AuditLogEntry, insert};
use crate::{
    api::Cloud,
    boxed,
    entity::audit_event,
    store::{Invalidates, failed},
};

/// Milliseconds after its first refusal that a row counts others.
const MINUTE: i64 = 60_000;

/// Rows that are remembered; beyond, those whose minute is over are forgotten.
const MANY: usize = 4096;

/// What refusals have in common that are counted together: key, action, outcome.
type Alike = (String, String, String);

/// The rows that count now. Clones are the same.
#[derive(Clone, Default)]
pub(in crate::api) struct Refusals(Arc<Mutex<HashMap<Alike, Counting>>>);

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
pub async fn refused(cloud: &Cloud, access_key_id: &str, entry: AuditLogEntry) -> Result<()> {
    count(cloud, access_key_id, entry, true).await
}

/// The same for a call that was one too many. Only the first one of a minute is written, since each of the
/// others has to cost next to nothing: its row says that there were some.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn throttled(cloud: &Cloud, access_key_id: &str, entry: AuditLogEntry) -> Result<()> {
    count(cloud, access_key_id, entry, false).await
}

async fn count(cloud: &Cloud, access_key_id: &str, entry: AuditLogEntry, each: bool) -> Result<()> {
    let now = cloud.now();
    let alike = (
        access_key_id.to_owned(),
        entry.action.clone(),
        entry.outcome.clone(),
    );
    let row = entry.row(&cloud.rng, now);
    let first = cloud.kept.refusals.row(alike, row.id, now);
    if first != row.id && !each {
        return Ok(());
    }
    let write = cloud.store.write_with(Invalidates::Nothing, move |txn| {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        api::audit_log::list,
        test_support::{Rig, cloud},
    };

    async fn refuse(rig: &Rig, key: &str, outcome: &str, detail: &str) {
        let entry = AuditLogEntry {
            outcome: outcome.into(),
            detail: Some(detail.into()),
            ..AuditLogEntry::sample(rig.who.account)
        };
        refused(&rig.cloud, key, entry).await.unwrap();
    }

    /// Outcomes with their counts, the oldest first.
    async fn told(rig: &Rig) -> Vec<(String, i64)> {
        let rows = list(&rig.cloud.parts(), rig.who.account, 100).await.unwrap();
        let told = rows.into_iter().rev();
        told.map(|row| (row.outcome, 1 + row.repeats.unwrap_or(0)))
            .collect()
    }

    #[tokio::test]
    async fn what_is_refused_alike_within_a_minute_is_one_row() {
        let rig = cloud().await;
        for n in 0..50 {
            refuse(&rig, "a", "Full", &format!("reason {n}")).await;
        }
        rig.pass(Duration::from_secs(1));
        refuse(&rig, "b", "Full", "").await;
        rig.pass(Duration::from_secs(1));
        refuse(&rig, "a", "Other", "").await;
        refuse(&rig, "a", "Full", "").await;
        rig.pass(Duration::from_secs(58));
        refuse(&rig, "a", "Full", "").await;
        refuse(&rig, "b", "Full", "").await;
        let outcome = |name: &str, count| (name.to_owned(), count);
        assert_eq!(
            told(&rig).await,
            [
                outcome("Full", 51),
                outcome("Full", 2),
                outcome("Other", 1),
                outcome("Full", 1)
            ]
        );
    }

    #[tokio::test]
    async fn one_call_too_many_is_written_once_a_minute() {
        let rig = cloud().await;
        for seconds in [0, 1, 58, 1, 1] {
            rig.pass(Duration::from_secs(seconds));
            let entry = AuditLogEntry::sample(rig.who.account);
            throttled(&rig.cloud, "a", entry).await.unwrap();
        }
        assert_eq!(told(&rig).await, [("ok".to_owned(), 1), ("ok".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn details_are_cut_and_a_row_that_is_gone_is_written_anew() {
        let rig = cloud().await;
        refuse(&rig, "a", "Full", &"é".repeat(100_000)).await;
        let rows = list(&rig.cloud.parts(), rig.who.account, 1).await.unwrap();
        assert_eq!(rows[0].detail.as_ref().unwrap().chars().count(), 500);
        let delete = rig.cloud.store.write(|txn| {
            Box::pin(async move { audit_event::Entity::delete_many().exec(txn).await.map_err(failed) })
        });
        delete.await.unwrap();
        refuse(&rig, "a", "Full", "").await;
        assert_eq!(told(&rig).await, [("Full".to_owned(), 1)]);
    }
}

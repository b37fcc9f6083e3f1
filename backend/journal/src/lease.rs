//! Leases: which operations are due, and which engine works on them.

use std::time::Duration;

use cumulet_domain::{Result, time::Timestamp};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::Expr,
};

use super::holds;
use cumulet_store::{
    Store, column,
    entity::{
        columns::Named,
        operation::{Column, Entity, Model, OperationStatus},
    },
    failed, first, rows,
};

use crate::boxed;

/// How long a step may take before another engine may run it.
const LEASE: Duration = Duration::from_secs(60);

/// No step is put off for longer, and no lease lasts longer: a time that is farther away was written by a
/// clock that has been set back since, and is taken for past.
const FARTHEST: Duration = Duration::from_secs(120);

/// Makes everything under way due now that this owner (an earlier life of it) had leased or waited for:
/// commands that were on their way when it ended are sent again.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn adopt(store: &Store, owner: &str, now: Timestamp) -> Result<()> {
    let owner = owner.to_owned();
    store
        .write(move |txn| {
            Box::pin(async move {
                holds::mend(txn).await?;
                Entity::update_many()
                    .col_expr(Column::NextAt, Expr::value(now.0))
                    .col_expr(Column::LeaseUntil, Expr::value(0_i64))
                    .filter(Column::Status.eq(Named(OperationStatus::Active)))
                    .filter(Column::LeaseOwner.is_null().or(Column::LeaseOwner.eq(owner)))
                    .exec(txn)
                    .await
                    .map_err(failed)
                    .map(drop)
            })
        })
        .await
}
/// Whether a time that was written down has come.
fn has_come(time: Column, now: Timestamp) -> Condition {
    Condition::any()
        .add(time.lte(now.0))
        .add(time.gt(now.after(FARTHEST).0))
}

/// Whether nobody works on an operation.
fn is_free(now: Timestamp) -> Condition {
    Condition::any()
        .add(Column::LeaseUntil.lt(now.0))
        .add(Column::LeaseUntil.gt(now.after(FARTHEST).0))
}

/// What is under way at one of these steps.
fn under_way(only: &[&'static str]) -> Select<Entity> {
    Entity::find()
        .filter(Column::Status.eq(Named(OperationStatus::Active)))
        .filter(Column::Step.is_in(only.iter().copied()))
}

/// What nobody works on and whose time has come, at one of these steps.
fn due(only: &[&'static str], now: Timestamp) -> Select<Entity> {
    under_way(only)
        .filter(has_come(Column::NextAt, now))
        .filter(is_free(now))
}

/// So many of those that are due, with something of every account: the oldest of each, then the next of each. An account
/// that waits for little has it all, however much others have asked for before.
///
/// The plan is the same on every database: what is under way is a range of the index (status, next_at), as for the
/// oldest; what is due of it, three numbers of each, is sorted by account and then by turn. All of that is read, and not
/// as much as is wanted alone, so that it is asked for a full round only.
fn in_turns(due: Select<Entity>, limit: u64) -> Select<Entity> {
    let turn = Expr::cust("ROW_NUMBER() OVER (PARTITION BY account ORDER BY next_at, id)");
    due.select_only()
        .column(Column::Id)
        .order_by_asc(turn)
        .order_by_asc(Column::NextAt)
        .limit(limit)
}

/// Leases what is due (at one of the steps `only`), oldest first. Where that is more than `limit`, accounts take turns.
#[boxed]
pub async fn lease(
    store: &Store,
    owner: &str,
    only: &[&'static str],
    now: Timestamp,
    limit: u64,
) -> Result<Vec<Model>> {
    // A read first: an idle engine must not take the writer's turn.
    let oldest = due(only, now)
        .select_only()
        .column(Column::Id)
        .order_by_asc(Column::NextAt)
        .limit(limit);
    let mut ids: Vec<i64> = column(oldest, store.read()).await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // The oldest may all be one account's.
    if ids.len() as u64 >= limit {
        ids = column(in_turns(due(only, now), limit), store.read()).await?;
    }
    let owner = owner.to_owned();
    let steps = only.to_vec();
    store
        .write(move |txn| {
            Box::pin(async move {
                // Still due: another engine may have run the step since the look.
                let leased = Entity::update_many()
                    .col_expr(Column::LeaseOwner, Expr::value(owner.clone()))
                    .col_expr(Column::LeaseUntil, Expr::value(now.after(LEASE).0))
                    .filter(Column::Id.is_in(ids.clone()))
                    .filter(Column::Status.eq(Named(OperationStatus::Active)))
                    .filter(Column::Step.is_in(steps))
                    .filter(has_come(Column::NextAt, now))
                    .filter(is_free(now))
                    .exec(txn)
                    .await
                    .map_err(failed)?;
                if leased.rows_affected == 0 {
                    return Ok(Vec::new());
                }
                let mine = Entity::find()
                    .filter(Column::Id.is_in(ids))
                    .filter(Column::LeaseOwner.eq(owner))
                    .filter(Column::LeaseUntil.eq(now.after(LEASE).0));
                rows::sound(mine, txn).await.map(|mine| mine.rows)
            })
        })
        .await
}

/// When the next operation is due that nobody works on now. (A lease that runs out is found later, by a
/// look without a reason.)
pub(super) async fn next_due(
    store: &Store,
    only: &[&'static str],
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let next: Option<i64> = first(
        under_way(only)
            .filter(Column::LeaseUntil.lt(now.0))
            .select_only()
            .column(Column::NextAt)
            .order_by_asc(Column::NextAt),
        store.read(),
    )
    .await?;
    Ok(next.map(Timestamp))
}

#[cfg(test)]
mod tests {
    use cumulet_store::{connect, scratch::Scratch};
    use sea_orm::{ConnectionTrait as _, DbBackend, QueryTrait as _};

    use super::*;

    /// SQLite says so by its rules alone; the servers' plans go by what there is in the table.
    #[tokio::test]
    async fn turns_are_taken_by_the_index() {
        let database = Scratch::migrated().await;
        let store = connect(&database.options(1)).await.unwrap();
        let (conn, now) = (store.read(), Timestamp(1_767_323_045_000));
        if conn.get_database_backend() != DbBackend::Sqlite {
            return;
        }
        let mut ask = in_turns(due(&["command", "place"], now), 256).build(DbBackend::Sqlite);
        ask.sql.insert_str(0, "EXPLAIN QUERY PLAN ");
        let plan = conn.query_all_raw(ask).await.unwrap();
        let plan: Vec<String> = plan
            .iter()
            .map(|row| row.try_get("", "detail").unwrap())
            .collect();
        let begins = |words: &str| plan.iter().any(|line| line.starts_with(words));
        assert!(begins("SEARCH operations USING INDEX"), "{plan:?}");
        assert!(!begins("SCAN operations"), "{plan:?}");
    }
}

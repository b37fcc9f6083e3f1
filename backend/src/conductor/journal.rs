//! The operation journal: pending work on instances, one operation at a time each.
//!
//! An operation is enqueued in the transaction that changes the instance's intent. Whatever it takes (a
//! host's capacity, addresses) is written in rows in the same transaction as the step that takes it, so
//! that a terminate can give everything back from any point, and no operation needs undo notes of its own.
//! A lease keeps two engines from running the same step; a step that runs twice is harmless anyway.

use std::time::Duration;

use cumulet_domain::{
    Error, Result,
    id::{InstanceId, OperationId},
    instance::StateReason,
    time::Timestamp,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter,
    QueryOrder, QuerySelect, Select, sea_query::Expr,
};
use serde::{Deserialize, Serialize};

use crate::{
    entity::operation::{ActiveModel, Column, Entity, Model},
    store::{Store, column, failed, first},
};

/// How long a step may take before another engine may run it.
const LEASE: Duration = Duration::from_secs(60);

/// No step is put off for longer, and no lease lasts longer: a time that is farther away was written by a
/// clock that has been set back since, and is taken for past.
const FARTHEST: Duration = Duration::from_secs(120);

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// Brings a new instance to `running`.
    Launch,
    /// Brings a stopped instance to `running`.
    Start,
    /// Brings a running instance to `stopped`.
    Stop,
    /// Resets the guest.
    Reboot,
    /// Brings any instance to `terminated`.
    Terminate,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [OperationKind; 5] = [
        OperationKind::Launch,
        OperationKind::Start,
        OperationKind::Stop,
        OperationKind::Reboot,
        OperationKind::Terminate,
    ];

    /// The name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            OperationKind::Launch => "launch",
            OperationKind::Start => "start",
            OperationKind::Stop => "stop",
            OperationKind::Reboot => "reboot",
            OperationKind::Terminate => "terminate",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The first step: what takes a host begins with placing; a launch that has failed on a host, with
    /// clearing that one.
    const fn first_step(self, state: &OperationState) -> Step {
        match self {
            OperationKind::Launch if !state.tried.is_empty() => Step::Clear,
            OperationKind::Launch | OperationKind::Start => Step::Place,
            OperationKind::Stop | OperationKind::Reboot | OperationKind::Terminate => Step::Command,
        }
    }

    /// How long it may take in all before it fails with a reason. A terminate never fails: after its
    /// deadline it goes on and is an alarm.
    pub(super) const fn deadline(self) -> Duration {
        match self {
            OperationKind::Launch | OperationKind::Start => Duration::from_secs(300),
            OperationKind::Stop | OperationKind::Reboot | OperationKind::Terminate => {
                Duration::from_secs(180)
            }
        }
    }
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// What a failed launch has left on its host is to be destroyed there, again and again, until the host
    /// reports that nothing is left.
    Clear,
    /// A host is to be claimed.
    Place,
    /// The host is to be told, again and again, until it reports.
    Command,
}

impl Step {
    /// The name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Clear => "clear",
            Step::Place => "place",
            Step::Command => "command",
        }
    }
}

/// A host on which a launch has failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedHost {
    /// The host's name.
    pub host: String,
    /// What it said.
    pub failure: String,
}

/// Where an instance is to be, by instances that are there already: Nova's scheduler hints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hints {
    /// Not on the host of any of these.
    #[serde(default)]
    pub different_host: Vec<InstanceId>,
    /// On the host of one of these, where there are any.
    #[serde(default)]
    pub same_host: Vec<InstanceId>,
}

/// What an operation carries from step to step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationState {
    /// A stop that does not ask the guest first.
    #[serde(default)]
    pub force: bool,
    /// What the instance's StateReason becomes when the operation is done.
    #[serde(default)]
    pub reason: Option<StateReason>,
    /// Where a launch has failed.
    #[serde(default)]
    pub tried: Vec<FailedHost>,
    /// Where a launch is to be.
    #[serde(default)]
    pub hints: Hints,
}

/// An operation to be enqueued.
#[derive(Clone, Debug)]
pub struct NewOperation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// The instance's account.
    pub account: i64,
    /// The instance.
    pub instance: i64,
    /// The instance's generation after the change of intent that this carries out.
    pub generation: i64,
    /// What it carries.
    pub state: OperationState,
    /// Now.
    pub now: Timestamp,
}

impl NewOperation {
    fn row(self) -> Result<ActiveModel> {
        let state = serde_json::to_string(&self.state).map_err(|e| Error::internal(&e))?;
        Ok(ActiveModel {
            id: Set(self.id.to_db()),
            kind: Set(self.kind.name().into()),
            account: Set(self.account),
            instance: Set(self.instance),
            active_instance: Set(Some(self.instance)),
            generation: Set(self.generation),
            status: Set("active".into()),
            step: Set(self.kind.first_step(&self.state).name().into()),
            state: Set(state),
            attempts: Set(0),
            next_at: Set(self.now.0),
            deadline: Set(self.now.after(self.kind.deadline()).0),
            lease_owner: Set(None),
            lease_until: Set(0),
            error: Set(None),
            created_at: Set(self.now.0),
            finished_at: Set(None),
        })
    }
}

/// Puts an operation into the journal, in the transaction that changed the instance. An operation that is
/// under way for the instance is superseded: the generation makes its commands and reports void.
///
/// # Errors
/// Those of the database.
pub async fn enqueue(conn: &impl ConnectionTrait, new: NewOperation) -> Result<OperationId> {
    let id = new.id;
    Entity::update_many()
        .col_expr(Column::ActiveInstance, Expr::value(Option::<i64>::None))
        .col_expr(Column::Status, Expr::value("superseded"))
        .col_expr(Column::FinishedAt, Expr::value(new.now.0))
        .filter(Column::ActiveInstance.eq(new.instance))
        .exec(conn)
        .await
        .map_err(failed)?;
    Entity::insert(new.row()?)
        .exec_without_returning(conn)
        .await
        .map_err(failed)?;
    Ok(id)
}

/// Puts operations of new instances into the journal: nothing can be under way for them.
///
/// # Errors
/// Those of the database.
pub async fn enqueue_new(conn: &impl ConnectionTrait, new: Vec<NewOperation>) -> Result<()> {
    let rows = new
        .into_iter()
        .map(NewOperation::row)
        .collect::<Result<Vec<_>>>()?;
    if !rows.is_empty() {
        Entity::insert_many(rows)
            .exec_without_returning(conn)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// Makes everything under way due now that this owner (an earlier life of it) had leased or waited for:
/// commands that were on their way when it ended are sent again.
pub(super) async fn adopt(store: &Store, owner: &str, now: Timestamp) -> Result<()> {
    let owner = owner.to_owned();
    store
        .write(move |txn| {
            Box::pin(async move {
                Entity::update_many()
                    .col_expr(Column::NextAt, Expr::value(now.0))
                    .col_expr(Column::LeaseUntil, Expr::value(0_i64))
                    .filter(Column::ActiveInstance.is_not_null())
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
fn under_way(only: &[Step]) -> Select<Entity> {
    Entity::find()
        .filter(Column::Status.eq("active"))
        .filter(Column::Step.is_in(only.iter().map(|step| step.name())))
}

/// Leases what is due (at one of the steps `only`), oldest first.
pub(super) async fn lease(
    store: &Store,
    owner: &str,
    only: &[Step],
    now: Timestamp,
    limit: u64,
) -> Result<Vec<Model>> {
    let due = || {
        under_way(only)
            .filter(has_come(Column::NextAt, now))
            .filter(is_free(now))
    };
    // A read first: an idle engine must not take the writer's turn.
    let ids: Vec<i64> = column(
        due()
            .select_only()
            .column(Column::Id)
            .order_by_asc(Column::NextAt)
            .limit(limit),
        store.read(),
    )
    .await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let owner = owner.to_owned();
    let steps: Vec<_> = only.iter().map(|step| step.name()).collect();
    store
        .write(move |txn| {
            Box::pin(async move {
                // Still due: another engine may have run the step since the look.
                let leased = Entity::update_many()
                    .col_expr(Column::LeaseOwner, Expr::value(owner.clone()))
                    .col_expr(Column::LeaseUntil, Expr::value(now.after(LEASE).0))
                    .filter(Column::Id.is_in(ids.clone()))
                    .filter(Column::Status.eq("active"))
                    .filter(Column::Step.is_in(steps))
                    .filter(has_come(Column::NextAt, now))
                    .filter(is_free(now))
                    .exec(txn)
                    .await
                    .map_err(failed)?;
                if leased.rows_affected == 0 {
                    return Ok(Vec::new());
                }
                Entity::find()
                    .filter(Column::Id.is_in(ids))
                    .filter(Column::LeaseOwner.eq(owner))
                    .filter(Column::LeaseUntil.eq(now.after(LEASE).0))
                    .all(txn)
                    .await
                    .map_err(failed)
            })
        })
        .await
}

/// When the next operation is due that nobody works on now. (A lease that runs out is found later, by a
/// look without a reason.)
pub(super) async fn next_due(store: &Store, only: &[Step], now: Timestamp) -> Result<Option<Timestamp>> {
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

/// Goes on to `step` at `next_at` and gives the lease back. The answer is false when the operation is no
/// longer under way: the caller must undo its transaction.
pub(super) async fn proceed(
    conn: &impl ConnectionTrait,
    operation: &Model,
    step: Step,
    attempts: i64,
    next_at: Timestamp,
) -> Result<bool> {
    let done = Entity::update_many()
        .col_expr(Column::Step, Expr::value(step.name()))
        .col_expr(Column::Attempts, Expr::value(attempts))
        .col_expr(Column::NextAt, Expr::value(next_at.0))
        .col_expr(Column::LeaseUntil, Expr::value(0_i64))
        .filter(Column::Id.eq(operation.id))
        .filter(Column::Status.eq("active"))
        .exec(conn)
        .await
        .map_err(failed)?;
    Ok(done.rows_affected == 1)
}

/// Like [`proceed`], in a transaction of its own.
pub(super) async fn go_on(
    store: &Store,
    operation: &Model,
    step: Step,
    attempts: i64,
    next_at: Timestamp,
) -> Result<bool> {
    let operation = operation.clone();
    store
        .write(move |txn| Box::pin(async move { proceed(txn, &operation, step, attempts, next_at).await }))
        .await
}

/// Gives the lease back, and lets the operation run the same step at `next_at`.
pub(super) async fn postpone(store: &Store, id: i64, next_at: Timestamp) -> Result<()> {
    store
        .write(move |txn| {
            Box::pin(async move {
                Entity::update_many()
                    .col_expr(Column::NextAt, Expr::value(next_at.0))
                    .col_expr(Column::LeaseUntil, Expr::value(0_i64))
                    .filter(Column::Id.eq(id))
                    .filter(Column::Status.eq("active"))
                    .exec(txn)
                    .await
                    .map_err(failed)
                    .map(drop)
            })
        })
        .await
}

/// Ends an operation. The answer is false when it had ended already.
pub(super) async fn finish(
    conn: &impl ConnectionTrait,
    id: i64,
    error: Option<String>,
    now: Timestamp,
) -> Result<bool> {
    let status = if error.is_some() { "failed" } else { "done" };
    let done = Entity::update_many()
        .col_expr(Column::ActiveInstance, Expr::value(Option::<i64>::None))
        .col_expr(Column::Status, Expr::value(status))
        .col_expr(Column::Error, Expr::value(error))
        .col_expr(Column::FinishedAt, Expr::value(now.0))
        .filter(Column::Id.eq(id))
        .filter(Column::Status.eq("active"))
        .exec(conn)
        .await
        .map_err(failed)?;
    Ok(done.rows_affected == 1)
}

/// The operation under way for an instance.
pub(super) async fn active(conn: &impl ConnectionTrait, instance: i64) -> Result<Option<Model>> {
    Entity::find()
        .filter(Column::ActiveInstance.eq(instance))
        .one(conn)
        .await
        .map_err(failed)
}

/// The generation at which an instance has come to run: what a host has seen at it or after it is of this
/// run, also where a reboot that has raised the generation since never reached the host. 0 where the
/// operation is no longer kept: nothing of the time before it is on its way any more.
pub(super) async fn began(conn: &impl ConnectionTrait, instance: i64) -> Result<i64> {
    let kinds = [OperationKind::Launch.name(), OperationKind::Start.name()];
    let began = Entity::find()
        .select_only()
        .column(Column::Generation)
        .filter(Column::Instance.eq(instance))
        .filter(Column::Status.eq("done"))
        .filter(Column::Kind.is_in(kinds))
        .order_by_desc(Column::Generation);
    Ok(first(began, conn).await?.unwrap_or(0))
}

/// What an operation's row carries.
pub(super) fn state(operation: &Model) -> Result<OperationState> {
    serde_json::from_str(&operation.state).map_err(|e| Error::internal(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for kind in OperationKind::ALL {
            assert_eq!(OperationKind::from_name(kind.name()), Some(kind));
        }
    }
}

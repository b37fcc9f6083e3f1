//! The operations' table: what is enqueued, rescheduled and finished, each in the transaction of whoever does so.

use cumulet_domain::{Error, ResourceKind, Result, account::AccountId, id::OperationId, time::Timestamp};
use futures::future::BoxFuture;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    sea_query::Expr,
};

use super::{Context, End, How, Operation, Resource, Step, holds};
use cumulet_store::{
    Store,
    entity::{
        columns::{Amount, Count, Key, Named, Owner},
        operation::{ActiveModel, Column, Entity, Model, OperationStatus},
    },
    failed, rows,
};

use crate::boxed;

/// Rows in one insert: SQLite takes 32,766 parameters.
const CHUNK: usize = 1000;

/// What an operation is to work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The resource's account.
    pub account: AccountId,
    /// The resource.
    pub subject: Resource,
    /// Its generation after the change of intent that the operation carries out.
    pub generation: u64,
}

/// What is to become of an operation whose place another one takes.
type Superseded = for<'a> fn(&'a DatabaseTransaction, &'a Model, &'a End) -> BoxFuture<'a, Result<()>>;

/// An operation to be enqueued.
#[derive(Clone, Debug)]
pub struct NewOperation {
    id: OperationId,
    kind: &'static str,
    supersedes: &'static [&'static str],
    superseded: Superseded,
    on: Target,
    /// All that it holds, its subject first.
    holds: Vec<Resource>,
    step: &'static str,
    state: String,
    deadline: Timestamp,
    now: Timestamp,
}

impl NewOperation {
    /// An operation `O` that carries `state`.
    ///
    /// # Errors
    /// `Internal`, for an operation without a step, and where the state can't be written down.
    pub fn of<O: Operation>(id: OperationId, on: Target, state: &O::State, now: Timestamp) -> Result<Self> {
        let first = O::first(state).ok_or_else(|| Error::Internal(format!("a {} has no step", O::NAME)))?;
        let mut holds = vec![on.subject];
        holds.extend(O::holds(on.subject, state));
        Ok(NewOperation {
            id,
            kind: O::NAME,
            supersedes: O::SUPERSEDES,
            superseded: superseded::<O::Cx>,
            on,
            holds,
            step: first.name,
            state: written(state)?,
            deadline: now.after(O::DEADLINE),
            now,
        })
    }

    fn row(&self) -> ActiveModel {
        let Resource { kind, id } = self.on.subject;
        // For a program of before, which knows instances alone.
        let instance = (kind == ResourceKind::Instance).then_some(id);
        ActiveModel {
            id: Set(Key(self.id)),
            kind: Set(self.kind.into()),
            account: Set(Owner(self.on.account)),
            instance: Set(instance.unwrap_or(0)),
            active_instance: Set(instance),
            generation: Set(Amount(self.on.generation)),
            status: Set(Named(OperationStatus::Active)),
            step: Set(self.step.into()),
            state: Set(self.state.clone()),
            attempts: Set(Count(0)),
            next_at: Set(self.now.0),
            deadline: Set(self.deadline.0),
            lease_owner: Set(None),
            lease_until: Set(0),
            error: Set(None),
            created_at: Set(self.now.0),
            finished_at: Set(None),
            subject_kind: Set(Some(kind.resource_type().into())),
            subject: Set(Some(id)),
            held: Set(Some(i64::try_from(self.holds.len()).unwrap_or(i64::MAX))),
        }
    }
}

fn superseded<'a, Cx: Context>(
    txn: &'a DatabaseTransaction,
    row: &'a Model,
    end: &'a End,
) -> BoxFuture<'a, Result<()>> {
    match Cx::registry().find(&row.kind) {
        Some(kind) => kind.ended(txn, row, end),
        None => Box::pin(std::future::ready(Ok(()))),
    }
}

/// Puts an operation into the journal, in the transaction that changed its subject. It takes the place of those
/// that it supersedes and that hold what it wants: the generation makes their commands and reports void.
///
/// # Errors
/// `Unavailable` where an operation that it does not supersede holds something of it, and those of the database.
#[boxed]
pub async fn enqueue(txn: &DatabaseTransaction, new: NewOperation) -> Result<OperationId> {
    let holders = holds::holders(txn, &new.holds).await?;
    if !holders.is_empty() {
        make_room(txn, &new, holders).await?;
    }
    let id = new.id;
    insert(txn, &[new]).await.map(|()| id)
}

/// Supersedes whoever holds what a new operation wants.
async fn make_room(txn: &DatabaseTransaction, new: &NewOperation, holders: Vec<i64>) -> Result<()> {
    let rows = Entity::find().filter(Column::Id.is_in(holders.iter().copied()));
    let rows = rows::all(rows, txn).await?;
    let open: Vec<_> = rows
        .into_iter()
        .filter(|row| row.status.0 == OperationStatus::Active)
        .collect();
    if let Some(other) = open
        .iter()
        .find(|row| !new.supersedes.contains(&row.kind.as_str()))
    {
        let (kind, id) = other.subject();
        let text = format!("a {} waits for the {} of {kind} {id}", new.kind, other.kind);
        return Err(Error::Unavailable(text));
    }
    let ids = open.iter().map(|row| row.id.to_db()).collect();
    close(txn, ids, OperationStatus::Superseded, None, new.now).await?;
    holds::release(txn, holders).await?;
    let end = End {
        how: How::Superseded,
        now: new.now,
        next: new.id,
    };
    for row in &open {
        (new.superseded)(txn, row, &end).await?;
    }
    Ok(())
}

/// Puts operations of new resources into the journal: nothing can be under way for them.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn enqueue_new(txn: &DatabaseTransaction, new: &[NewOperation]) -> Result<()> {
    insert(txn, new).await
}

async fn insert(txn: &DatabaseTransaction, new: &[NewOperation]) -> Result<()> {
    for new in new.chunks(CHUNK) {
        let rows: Vec<ActiveModel> = new.iter().map(NewOperation::row).collect();
        Entity::insert_many(rows)
            .exec_without_returning(txn)
            .await
            .map_err(failed)?;
        holds::take(txn, holds_of(new)).await?;
    }
    Ok(())
}

/// What operations hold, each with its operation.
fn holds_of(new: &[NewOperation]) -> Vec<(Resource, i64)> {
    let mut all = Vec::with_capacity(new.len());
    for one in new {
        all.extend(one.holds.iter().map(|resource| (*resource, one.id.to_db())));
    }
    all
}

/// Goes on to `step` at `next_at` and gives the lease back. The answer is false when the operation is no
/// longer under way: the caller must undo its transaction.
#[boxed]
pub async fn proceed(
    conn: &impl ConnectionTrait,
    operation: &Model,
    step: &'static Step,
    attempts: u32,
    next_at: Timestamp,
) -> Result<bool> {
    let done = Entity::update_many()
        .col_expr(Column::Step, Expr::value(step.name))
        .col_expr(Column::Attempts, Expr::value(Count(attempts)))
        .col_expr(Column::NextAt, Expr::value(next_at.0))
        .col_expr(Column::LeaseUntil, Expr::value(0_i64))
        .filter(Column::Id.eq(operation.id))
        .filter(Column::Status.eq(Named(OperationStatus::Active)))
        .exec(conn)
        .await
        .map_err(failed)?;
    Ok(done.rows_affected == 1)
}

/// Like [`proceed`], in a transaction of its own.
#[boxed]
pub async fn go_on(
    store: &Store,
    operation: &Model,
    step: &'static Step,
    attempts: u32,
    next_at: Timestamp,
) -> Result<bool> {
    let operation = operation.clone();
    store
        .write(move |txn| Box::pin(async move { proceed(txn, &operation, step, attempts, next_at).await }))
        .await
}

/// Gives the lease back, and lets the operation run the same step at `next_at`.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn postpone(store: &Store, id: OperationId, next_at: Timestamp) -> Result<()> {
    store
        .write(move |txn| {
            Box::pin(async move {
                Entity::update_many()
                    .col_expr(Column::NextAt, Expr::value(next_at.0))
                    .col_expr(Column::LeaseUntil, Expr::value(0_i64))
                    .filter(Column::Id.eq(id.to_db()))
                    .filter(Column::Status.eq(Named(OperationStatus::Active)))
                    .exec(txn)
                    .await
                    .map_err(failed)
                    .map(drop)
            })
        })
        .await
}

/// Ends an operation, and gives free what it holds. The answer is false when it had ended already.
#[boxed]
pub async fn finish(
    txn: &DatabaseTransaction,
    id: OperationId,
    error: Option<String>,
    now: Timestamp,
) -> Result<bool> {
    let status = if error.is_some() {
        OperationStatus::Failed
    } else {
        OperationStatus::Done
    };
    if close(txn, vec![id.to_db()], status, error, now).await? != 1 {
        return Ok(false);
    }
    holds::release(txn, vec![id.to_db()]).await.map(|()| true)
}

/// Writes into operations that they have ended; how many were under way. What they hold is to be given free in
/// the same transaction.
async fn close(
    txn: &DatabaseTransaction,
    ids: Vec<i64>,
    status: OperationStatus,
    error: Option<String>,
    now: Timestamp,
) -> Result<u64> {
    Entity::update_many()
        .col_expr(Column::ActiveInstance, Expr::value(Option::<i64>::None))
        .col_expr(Column::Held, Expr::value(0_i64))
        .col_expr(Column::Status, Expr::value(Named(status)))
        .col_expr(Column::Error, Expr::value(error))
        .col_expr(Column::FinishedAt, Expr::value(now.0))
        .filter(Column::Id.is_in(ids))
        .filter(Column::Status.eq(Named(OperationStatus::Active)))
        .exec(txn)
        .await
        .map_err(failed)
        .map(|done| done.rows_affected)
}

/// The operation under way that holds a resource.
pub async fn active(conn: &impl ConnectionTrait, resource: Resource) -> Result<Option<Model>> {
    let holders = holds::holders(conn, &[resource]).await?;
    if holders.is_empty() {
        return Ok(None);
    }
    let active = Entity::find()
        .filter(Column::Id.is_in(holders))
        .filter(Column::Status.eq(Named(OperationStatus::Active)));
    rows::one(active, conn).await
}

/// What an operation's row carries.
pub fn state<O: Operation>(operation: &Model) -> Result<O::State> {
    serde_json::from_str(&operation.state).map_err(|e| Error::internal(&e))
}

/// The same, as the row keeps it.
pub fn written(state: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(state).map_err(|e| Error::internal(&e))
}

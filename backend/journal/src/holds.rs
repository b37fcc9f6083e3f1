//! Holds: the resources that open operations have to themselves, one row each under a unique key. A hold begins in
//! the transaction that enqueues its operation and goes in the one that ends it; `cumulet audit` and the simulator
//! look for others.

use cumulet_domain::{Error, ResourceKind, Result};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect,
    QueryTrait,
    sea_query::{Expr, ExprTrait, UnionType},
};

use super::Resource;
use cumulet_store::{
    batch::chunks,
    column,
    entity::{
        columns::{Key, Named},
        operation::{self, OperationStatus},
        operation_hold::{ActiveModel, Column, Entity},
    },
    failed, is_taken,
};

/// Takes resources for operations.
///
/// # Errors
/// `Unavailable` where another operation was quicker, and those of the database.
pub(super) async fn take(txn: &DatabaseTransaction, holds: Vec<(Resource, i64)>) -> Result<()> {
    let rows = holds.into_iter().map(|(resource, operation)| ActiveModel {
        kind: Set(resource.kind.resource_type().into()),
        resource: Set(resource.id),
        operation: Set(Key::from_db(operation)),
    });
    let insert = Entity::insert_many(rows.collect::<Vec<_>>())
        .exec_without_returning(txn)
        .await;
    insert.map(drop).map_err(|error| {
        if is_taken(&error) {
            Error::Unavailable("another operation has begun meanwhile".into())
        } else {
            failed(error)
        }
    })
}

/// Gives free what operations hold.
pub(super) async fn release(txn: &DatabaseTransaction, operations: Vec<i64>) -> Result<()> {
    Entity::delete_many()
        .filter(Column::Operation.is_in(operations))
        .exec(txn)
        .await
        .map_err(failed)
        .map(drop)
}

/// The operations that hold any of these. One that a program of before has ended may be among them: it left its
/// holds. One that such a program has begun has none, and is known by the instance.
pub(super) async fn holders(conn: &impl ConnectionTrait, resources: &[Resource]) -> Result<Vec<i64>> {
    let mut any = Condition::any();
    let mut instances = Vec::new();
    for resource in resources {
        let kind = resource.kind.resource_type();
        any = any.add(Column::Kind.eq(kind).and(Column::Resource.eq(resource.id)));
        if resource.kind == ResourceKind::Instance {
            instances.push(resource.id);
        }
    }
    let mut select = Entity::find()
        .select_only()
        .column_as(Column::Operation, "holder")
        .filter(any)
        .into_query();
    if !instances.is_empty() {
        let before = operation::Entity::find()
            .select_only()
            .column_as(operation::Column::Id, "holder")
            .filter(operation::Column::ActiveInstance.is_in(instances));
        select.union(UnionType::Distinct, before.into_query());
    }
    let rows = conn.query_all(&select).await.map_err(failed)?;
    rows.iter()
        .map(|row| row.try_get("", "holder").map_err(failed))
        .collect()
}

/// Puts right what a program of before has left, which knows no holds: those of operations that it has ended go, and
/// operations that it has begun get theirs. A hold that this program has left is not touched, so that it is found.
pub(super) async fn mend(txn: &DatabaseTransaction) -> Result<()> {
    use operation::Column as O;
    let of_its_own = operation::Entity::find()
        .select_only()
        .column(O::Id)
        .filter(O::Status.eq(Named(OperationStatus::Active)).or(O::Held.eq(0)));
    // Looked up first: a statement that deletes may see a hold that has just come and not yet its operation.
    let left = Entity::find()
        .select_only()
        .column(Column::Operation)
        .distinct()
        .filter(Column::Operation.not_in_subquery(of_its_own.into_query()));
    let left = column(left, txn).await?;
    for some in chunks(&left) {
        release(txn, some).await?;
    }
    let close = operation::Entity::update_many()
        .col_expr(O::Held, Expr::value(0_i64))
        .filter(O::Status.ne(Named(OperationStatus::Active)))
        .filter(O::Held.is_null().or(O::Held.ne(0)));
    close.exec(txn).await.map_err(failed)?;
    let begun = operation::Entity::find()
        .select_only()
        .column(O::Id)
        .filter(O::Status.eq(Named(OperationStatus::Active)))
        .filter(O::Held.is_null());
    let begun = column(begun, txn).await?;
    for some in chunks(&begun) {
        // First the rows, so that of two who do this one finds nothing to do.
        let known = operation::Entity::update_many()
            .col_expr(
                O::SubjectKind,
                Expr::value(ResourceKind::Instance.resource_type()),
            )
            .col_expr(O::Subject, Expr::col(O::Instance))
            .col_expr(O::Held, Expr::value(1_i64))
            .filter(O::Id.is_in(some.iter().copied()))
            .filter(O::Status.eq(Named(OperationStatus::Active)))
            .filter(O::Held.is_null());
        known.exec(txn).await.map_err(failed)?;
        let ids: Vec<String> = some.iter().map(i64::to_string).collect();
        let insert = format!(
            "INSERT INTO operation_holds (kind, resource, operation) \
             SELECT subject_kind, subject, id FROM operations WHERE status = 'active' AND id IN ({}) \
             AND NOT EXISTS (SELECT 1 FROM operation_holds WHERE operation_holds.operation = operations.id)",
            ids.join(", ")
        );
        txn.execute_unprepared(&insert).await.map_err(failed)?;
    }
    if !begun.is_empty() || !left.is_empty() {
        let (left, begun) = (left.len(), begun.len());
        tracing::warn!(left, begun, "an older program has ended and begun operations");
    }
    Ok(())
}

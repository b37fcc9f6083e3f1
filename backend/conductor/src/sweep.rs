//! The retention sweep: it deletes what has had its time (see [`cumulet_core::retention`]), a bounded number of rows
//! a transaction, so that no other transaction waits for it. What is deleted can't be seen any more, so
//! nothing that is cached of instances becomes invalid.

mod audit_size;

use cumulet_domain::{ResourceKind, Result, crash, time::Timestamp};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    Select, sea_query::SelectStatement,
};

use cumulet_core::retention::Retention;
use cumulet_operations::Driver;
use cumulet_store::{
    Invalidates, Store, column,
    entity::{audit_event, client_token, instance, metadata_push, operation, reservation, tag, volume},
    failed, images, lock, snapshots, tags, volumes,
};

/// Rows in one transaction: some milliseconds.
const BATCH: u64 = if cfg!(test) { 3 } else { 256 };

/// The audit log's size is looked at every so many times: its entries have to be counted.
const COUNTED: u64 = 10;

pub(super) async fn run(driver: Driver) {
    let keep = driver.settings.retention;
    for times in 0_u64.. {
        catch_up(&driver.store).await;
        if times == 0 {
            crash::up("caught-up");
        }
        let mut now = keep;
        if !times.is_multiple_of(COUNTED) {
            now.audit_log_bytes = 0;
        }
        match sweep(&driver.store, &now, driver.clock.now()).await {
            Ok(swept) if swept == Swept::default() => {}
            Ok(swept) => tracing::debug!(?swept, "deleted what has had its time"),
            Err(error) => tracing::warn!(%error, "what has had its time could not be deleted"),
        }
        tokio::time::sleep(keep.interval()).await;
    }
}

/// While an earlier program runs beside this one: see [`catch_up`].
async fn catch_up(store: &Store) {
    match cumulet_store::catch_up::run(store).await {
        Ok(false) => {}
        Ok(true) => {
            tracing::info!("an earlier program has made or ended something; its rows are complete now")
        }
        Err(error) => tracing::warn!(%error, "what an earlier program has made could not be completed"),
    }
}

/// How many rows of each kind a sweep has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Swept {
    client_tokens: u64,
    instances: u64,
    volumes: u64,
    snapshots: u64,
    images: u64,
    operations: u64,
    audit_log: u64,
}

async fn sweep(store: &Store, keep: &Retention, now: Timestamp) -> Result<Swept> {
    let tokens = keep.client_tokens.horizon(now);
    let ended = keep.terminated_instances.horizon(now);
    Ok(Swept {
        // Before the instances: a token that is still good must find those that it made.
        client_tokens: expire::<client_token::Entity>(store, client_token::Column::CreatedAt, tokens).await?,
        instances: {
            untag(store, ended).await?;
            instances(store, ended, tokens).await?
        },
        volumes: expire::<volume::Entity>(store, volume::Column::DeletedAt, ended).await?,
        snapshots: forget_snapshots(store, ended).await?,
        // After the instances, which say what they are of.
        images: forget_images(store, ended).await?,
        operations: {
            let finished = keep.operations.horizon(now);
            expire::<operation::Entity>(store, operation::Column::FinishedAt, finished).await?
        },
        audit_log: {
            let old = keep.audit_log.horizon(now);
            let old = old.max(audit_size::horizon(store, keep.audit_log_bytes).await?);
            expire::<audit_event::Entity>(store, audit_event::Column::At, old).await?
        },
    })
}

/// Deletes the rows of a table whose `time` is the horizon or before it, the oldest first.
async fn expire<E: EntityTrait>(store: &Store, time: E::Column, horizon: Timestamp) -> Result<u64> {
    let mut deleted = 0;
    loop {
        // A read first: an idle sweeper must not take the writer's turn.
        let oldest = E::find()
            .select_only()
            .column(time)
            .filter(time.lte(horizon.0))
            .order_by_asc(time)
            .limit(BATCH);
        let oldest: Vec<i64> = column(oldest, store.read()).await?;
        let Some(last) = oldest.last().copied() else {
            return Ok(deleted);
        };
        // More than a batch only where that many have the same millisecond.
        let delete = store.write_with(Invalidates::Nothing, move |txn| {
            Box::pin(async move {
                let delete = E::delete_many().filter(time.lte(last));
                delete.exec(txn).await.map_err(failed)
            })
        });
        deleted += delete.await?.rows_affected;
    }
}

/// Deletes the rows of snapshots that were deleted at the horizon or before it.
async fn forget_snapshots(store: &Store, horizon: Timestamp) -> Result<u64> {
    let mut deleted = 0;
    // A read first: an idle sweeper must not take the writer's turn.
    while !snapshots::gone(store.read(), horizon, BATCH).await?.is_empty() {
        let delete = store.write_with(Invalidates::Nothing, move |txn| {
            Box::pin(async move { snapshots::forget(txn, horizon, BATCH).await })
        });
        deleted += delete.await?;
    }
    Ok(deleted)
}

/// Deletes the rows of images that were deregistered at the horizon or before it.
async fn forget_images(store: &Store, horizon: Timestamp) -> Result<u64> {
    let mut deleted = 0;
    while !images::gone(store.read(), horizon, BATCH).await?.is_empty() {
        let delete = store.write_with(Invalidates::Nothing, move |txn| {
            Box::pin(async move { images::forget(txn, horizon, BATCH).await })
        });
        deleted += delete.await?;
    }
    Ok(deleted)
}

/// Instances, by their ids, that ended at the horizon or before it.
fn ended(horizon: Timestamp) -> Select<instance::Entity> {
    instance::Entity::find()
        .select_only()
        .column(instance::Column::Id)
        .filter(instance::Column::TerminatedAt.lte(horizon.0))
}

/// What can't be seen any more has no tags.
async fn untag(store: &Store, horizon: Timestamp) -> Result<()> {
    untag_those(store, ResourceKind::Instance, &ended(horizon).into_query()).await?;
    untag_those(store, ResourceKind::Volume, &volumes::ended(horizon).into_query()).await
}

async fn untag_those(store: &Store, kind: ResourceKind, those: &SelectStatement) -> Result<()> {
    loop {
        let some = tag::Entity::find()
            .select_only()
            .column(tag::Column::Resource)
            .distinct()
            .filter(tag::Column::Kind.eq(kind.resource_type()))
            .filter(tag::Column::Resource.in_subquery(those.clone()))
            .limit(BATCH);
        let some = column(some, store.read()).await?;
        if some.is_empty() {
            return Ok(());
        }
        let remove = store.write_with(Invalidates::Nothing, move |txn| {
            Box::pin(async move { tags::remove(txn, kind, &some).await })
        });
        remove.await?;
    }
}

/// Deletes the instances that can't be seen any more and that no client token stands for.
async fn instances(store: &Store, horizon: Timestamp, tokens: Timestamp) -> Result<u64> {
    use instance::Column as C;
    let mut deleted = 0;
    loop {
        let no_token = Condition::any()
            .add(C::ClientToken.is_null())
            .add(C::CreatedAt.lte(tokens.0));
        let some = ended(horizon)
            .filter(no_token)
            .order_by_asc(C::TerminatedAt)
            .limit(BATCH);
        let some = column(some, store.read()).await?;
        if some.is_empty() {
            return Ok(deleted);
        }
        deleted += some.len() as u64;
        let delete = store.write_with(Invalidates::Nothing, move |txn| {
            Box::pin(async move { forget(txn, some).await })
        });
        delete.await?;
    }
}

/// Deletes instances with all that is left of them, and those of their reservations that have no others.
/// Interfaces, addresses, claims and disks were given back when they ended.
async fn forget(conn: &impl ConnectionTrait, ids: Vec<i64>) -> Result<()> {
    let theirs = instance::Entity::find()
        .select_only()
        .column(instance::Column::Reservation)
        .distinct()
        .filter(instance::Column::Id.is_in(ids.iter().copied()));
    let reservations = column(theirs, conn).await?;
    // Two who delete a reservation's instances at once: the second one sees that none is left.
    lock::rows::<reservation::Entity>(conn, reservation::Column::Id, &reservations).await?;
    metadata_push::Entity::delete_many()
        .filter(metadata_push::Column::Instance.is_in(ids.iter().copied()))
        .exec(conn)
        .await
        .map_err(failed)?;
    instance::Entity::delete_many()
        .filter(instance::Column::Id.is_in(ids.iter().copied()))
        .exec(conn)
        .await
        .map_err(failed)?;
    tags::remove(conn, ResourceKind::Instance, &ids).await?;
    let others = instance::Entity::find()
        .select_only()
        .column(instance::Column::Reservation)
        .filter(instance::Column::Reservation.is_in(reservations.iter().copied()));
    reservation::Entity::delete_many()
        .filter(reservation::Column::Id.is_in(reservations))
        .filter(reservation::Column::Id.not_in_subquery(others.into_query()))
        .exec(conn)
        .await
        .map_err(failed)
        .map(drop)
}

#[cfg(test)]
mod tests;

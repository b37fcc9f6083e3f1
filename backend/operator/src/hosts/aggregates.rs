//! Aggregates: hosts that the operator has put together, with metadata that filters go by.

use std::collections::BTreeMap;

use cumulet_core::Parts;
use cumulet_domain::{
    Error, Result,
    id::{HostId, marker},
};
use cumulet_store::{
    Invalidates,
    entity::{aggregate, aggregate_host, aggregate_metadata, columns::Key},
    failed, is_taken, rows,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};

use crate::{boxed, hosts::list::locked};

/// A name or a key at the most.
const MAX_NAME: usize = 255;
/// A value at the most.
const MAX_VALUE: usize = 4096;

/// An aggregate with what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateView {
    /// Its name.
    pub name: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its hosts, by name.
    pub hosts: Vec<String>,
}

fn check(name: &'static str, text: &str, most: usize) -> Result<()> {
    if text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
        let reason = format!("expected 1 to {most} printable characters");
        return Err(Error::invalid(name, text, reason));
    }
    Ok(())
}

/// An aggregate, locked: what hangs on it changes in one transaction at a time, and none of it comes to be
/// when the aggregate is gone.
async fn find(conn: &impl ConnectionTrait, name: &str) -> Result<aggregate::Model> {
    let query = aggregate::Entity::find().filter(aggregate::Column::Name.eq(name));
    let query = query.lock_exclusive();
    let row = rows::one(query, conn).await?;
    row.ok_or_else(|| Error::invalid("Aggregate", name, "there is no such aggregate"))
}

/// Makes an aggregate.
///
/// # Errors
/// `InvalidParameter` for a bad or taken name.
#[boxed]
pub async fn create(parts: &Parts, name: &str) -> Result<()> {
    check("Aggregate", name, MAX_NAME)?;
    let row = aggregate::ActiveModel {
        id: Set(Key(parts.rng.id::<marker::Aggregate>())),
        name: Set(name.to_owned()),
        created_at: Set(parts.clock.now().0),
    };
    let name = name.to_owned();
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            match aggregate::Entity::insert(row).exec_without_returning(txn).await {
                Ok(_) => Ok(()),
                Err(error) if is_taken(&error) => {
                    Err(Error::invalid("Aggregate", &name, "there is one of that name"))
                }
                Err(error) => Err(failed(error)),
            }
        })
    });
    write.await
}

/// Every aggregate, by name.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list(parts: &Parts) -> Result<Vec<AggregateView>> {
    let conn = parts.store.read();
    let query = aggregate::Entity::find().order_by_asc(aggregate::Column::Name);
    let rows = rows::all(query, conn).await?;
    let metadata = rows::all(aggregate_metadata::Entity::find(), conn).await?;
    let hosts = aggregate_host::Entity::find().order_by_asc(aggregate_host::Column::Host);
    let hosts = rows::all(hosts, conn).await?;
    let view = |row: aggregate::Model| AggregateView {
        metadata: metadata
            .iter()
            .filter(|pair| pair.aggregate == row.id)
            .map(|pair| (pair.key.clone(), pair.value.clone()))
            .collect(),
        hosts: hosts
            .iter()
            .filter(|member| member.aggregate == row.id)
            .map(|member| member.host.clone())
            .collect(),
        name: row.name,
    };
    Ok(rows.into_iter().map(view).collect())
}

/// Puts a host into an aggregate.
///
/// # Errors
/// `InvalidParameter` for an unknown aggregate or host.
#[boxed]
pub async fn add_host(parts: &Parts, name: &str, host: &HostId) -> Result<()> {
    let (name, host) = (name.to_owned(), host.clone());
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let host = locked(txn, &host).await?.id;
            let row = aggregate_host::ActiveModel {
                aggregate: Set(find(txn, &name).await?.id),
                host: Set(host),
            };
            let keys = [aggregate_host::Column::Aggregate, aggregate_host::Column::Host];
            let there = OnConflict::columns(keys).do_nothing_on(keys).to_owned();
            let insert = aggregate_host::Entity::insert(row).on_conflict(there);
            insert.exec_without_returning(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// Takes a host out of an aggregate.
///
/// # Errors
/// `InvalidParameter` for an unknown aggregate.
#[boxed]
pub async fn remove_host(parts: &Parts, name: &str, host: &HostId) -> Result<()> {
    let (name, host) = (name.to_owned(), host.clone());
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let delete = aggregate_host::Entity::delete_many()
                .filter(aggregate_host::Column::Aggregate.eq(find(txn, &name).await?.id))
                .filter(aggregate_host::Column::Host.eq(host.0));
            delete.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// Sets a key of an aggregate's metadata, or removes it where there is no value.
///
/// # Errors
/// `InvalidParameter` for an unknown aggregate, a bad key or value.
#[boxed]
pub async fn set_metadata(parts: &Parts, name: &str, key: &str, value: Option<&str>) -> Result<()> {
    check("Key", key, MAX_NAME)?;
    value.map_or(Ok(()), |value| check("Value", value, MAX_VALUE))?;
    let (name, key, value) = (name.to_owned(), key.to_owned(), value.map(str::to_owned));
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            use aggregate_metadata::Column as C;
            let aggregate = find(txn, &name).await?.id;
            let Some(value) = value else {
                let delete = aggregate_metadata::Entity::delete_many()
                    .filter(C::Aggregate.eq(aggregate))
                    .filter(C::Key.eq(key));
                return delete.exec(txn).await.map(drop).map_err(failed);
            };
            let row = aggregate_metadata::ActiveModel {
                aggregate: Set(aggregate),
                key: Set(key),
                value: Set(value),
            };
            let update = OnConflict::columns([C::Aggregate, C::Key])
                .update_column(C::Value)
                .to_owned();
            let insert = aggregate_metadata::Entity::insert(row).on_conflict(update);
            insert.exec_without_returning(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// Deletes an aggregate that has no hosts.
///
/// # Errors
/// `InvalidParameter` for an unknown aggregate, or one with hosts.
#[boxed]
pub async fn delete(parts: &Parts, name: &str) -> Result<()> {
    let name = name.to_owned();
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let id = find(txn, &name).await?.id;
            let hosts = aggregate_host::Entity::find().filter(aggregate_host::Column::Aggregate.eq(id));
            if let Some(host) = rows::one(hosts, txn).await? {
                let reason = format!("hosts are in it: {}", host.host);
                return Err(Error::invalid("Aggregate", &name, reason));
            }
            aggregate_metadata::Entity::delete_many()
                .filter(aggregate_metadata::Column::Aggregate.eq(id))
                .exec(txn)
                .await
                .map_err(failed)?;
            let delete = aggregate::Entity::delete_by_id(id);
            delete.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

//! The listing of hosts with their capacity, claims and profile.

use std::collections::{BTreeMap, HashMap};

use cumulet_core::{Parts, RequestContext};
use cumulet_domain::{
    Error, Result,
    host::Metrics,
    id::{HostId, InstanceId, marker::Instance},
    time::Timestamp,
};
use cumulet_scheduler::SILENCE;
use cumulet_store::{
    entity::{
        aggregate, aggregate_host,
        columns::{Flag, Key},
        host, instance,
    },
    rows,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
};
use serde::de::DeserializeOwned;

use crate::boxed;

/// What a host is to the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes new instances.
    Enabled,
    /// The operator has taken it out.
    Disabled,
    /// The operator empties it.
    Draining,
    /// Its planned maintenance goes on.
    Maintenance,
}

impl Standing {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Standing::Enabled => "enabled",
            Standing::Disabled => "disabled",
            Standing::Draining => "draining",
            Standing::Maintenance => "maintenance",
        }
    }

    fn of(row: &host::Model, now: Timestamp) -> Self {
        let planned = row.maintenance_start.zip(row.maintenance_end);
        if planned.is_some_and(|(start, end)| start <= now.0 && now.0 < end) {
            Standing::Maintenance
        } else if row.draining == Some(Flag(true)) {
            Standing::Draining
        } else if !row.enabled.0 {
            Standing::Disabled
        } else {
            Standing::Enabled
        }
    }
}

/// A host with what is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// The host's row.
    pub row: host::Model,
    /// What it is to the scheduler.
    pub standing: Standing,
    /// It was heard of lately.
    pub alive: bool,
    /// The instances whose disks are there.
    pub instances: Vec<InstanceId>,
    /// The names of the aggregates that it is in.
    pub aggregates: Vec<String>,
    /// What it has told of itself.
    pub capabilities: BTreeMap<String, String>,
    /// How busy it was lately.
    pub metrics: Metrics,
    /// What it says is not as it should be.
    pub problems: Vec<String>,
}

/// Every host, by name.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list(parts: &Parts) -> Result<Vec<HostView>> {
    let (conn, now) = (parts.store.read(), parts.clock.now());
    let query = host::Entity::find().order_by_asc(host::Column::Id);
    let rows = rows::all(query, conn).await?;
    let mut instances: HashMap<String, Vec<InstanceId>> = HashMap::new();
    for on in on(conn, None).await? {
        instances.entry(on.host).or_default().push(on.id.0);
    }
    let names = rows::all(aggregate::Entity::find(), conn).await?;
    let names: HashMap<i64, String> = names.into_iter().map(|row| (row.id.to_db(), row.name)).collect();
    let mut aggregates: HashMap<String, Vec<String>> = HashMap::new();
    for row in rows::all(aggregate_host::Entity::find(), conn).await? {
        if let Some(name) = names.get(&row.aggregate.to_db()) {
            aggregates.entry(row.host).or_default().push(name.clone());
        }
    }
    let view = |row: host::Model| {
        let mut aggregates = aggregates.remove(&row.id).unwrap_or_default();
        aggregates.sort();
        HostView {
            standing: Standing::of(&row, now),
            alive: now.since(Timestamp(row.last_seen)) < SILENCE,
            instances: instances.remove(&row.id).unwrap_or_default(),
            aggregates,
            capabilities: told(row.capabilities.as_deref()),
            metrics: told(row.metrics.as_deref()),
            problems: told(row.problems.as_deref()),
            row,
        }
    };
    Ok(rows.into_iter().map(view).collect())
}

/// One host.
///
/// # Errors
/// `InvalidParameter` for an unknown one.
#[boxed]
pub async fn show(parts: &Parts, id: &HostId) -> Result<HostView> {
    let found = list(parts).await?.into_iter().find(|view| view.row.id == id.0);
    found.ok_or_else(|| no_such_host(id))
}

/// What a host has told, as its row has it.
fn told<T: DeserializeOwned + Default>(json: Option<&str>) -> T {
    json.and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default()
}

/// Planned maintenance of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// From then on its instances may be interrupted.
    pub start: Timestamp,
    /// Until then.
    pub end: Timestamp,
    /// Why.
    pub reason: Option<String>,
}

/// The hosts with planned maintenance that is not over, for the events of those instances that are on them.
/// Read each time: the operator plans it from another process.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn planned(cx: &RequestContext) -> Result<HashMap<String, Maintenance>> {
    let rows = host::Entity::find().filter(host::Column::MaintenanceEnd.gt(cx.now().0));
    let rows = rows::all(rows, cx.store.read()).await?;
    let of = |row: host::Model| {
        let plan = Maintenance {
            start: Timestamp(row.maintenance_start?),
            end: Timestamp(row.maintenance_end?),
            reason: row.maintenance_reason,
        };
        Some((row.id, plan))
    };
    Ok(rows.into_iter().filter_map(of).collect())
}

/// One host's row.
///
/// # Errors
/// `InvalidParameter` where there is none of the name.
pub async fn get(conn: &impl ConnectionTrait, id: &HostId) -> Result<host::Model> {
    let row = rows::one(host::Entity::find_by_id(id.0.as_str()), conn).await?;
    row.ok_or_else(|| no_such_host(id))
}

/// Like [`get`], for a transaction that goes by it: nobody removes the host until that ends.
pub(super) async fn locked(conn: &impl ConnectionTrait, id: &HostId) -> Result<host::Model> {
    let query = host::Entity::find_by_id(id.0.as_str()).lock_exclusive();
    let row = rows::one(query, conn).await?;
    row.ok_or_else(|| no_such_host(id))
}

fn no_such_host(id: &HostId) -> Error {
    Error::invalid("Host", &id.0, "there is no such host; `cumulet admin host list`")
}

/// An instance and its host.
#[derive(FromQueryResult)]
pub(super) struct On {
    pub(super) id: Key<Instance>,
    host: String,
}

/// The instances that are on hosts, or on one of them, by their ids.
pub(super) async fn on(conn: &impl ConnectionTrait, host: Option<&HostId>) -> Result<Vec<On>> {
    let query = instance::Entity::find()
        .select_only()
        .columns([instance::Column::Id, instance::Column::Host])
        .order_by_asc(instance::Column::Id);
    let query = match host {
        Some(host) => query.filter(instance::Column::Host.eq(host.0.as_str())),
        None => query.filter(instance::Column::Host.is_not_null()),
    };
    rows::selected(query, conn).await
}

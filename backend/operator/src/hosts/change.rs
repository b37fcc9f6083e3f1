//! Operator actions on a host: disable, enable, drain, maintenance, removal.

use cumulet_core::Parts;
use cumulet_domain::{
    Error, Result,
    id::{HostId, InstanceId},
    time::Timestamp,
};
use cumulet_store::{
    Invalidates,
    entity::{aggregate_host, columns::Flag, host, host_network, instance},
    failed,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait,
    IntoActiveModel, QueryFilter, QuerySelect, QueryTrait,
};

use crate::{
    boxed,
    hosts::list::{locked, on},
};

/// Text of an operator at the most.
const MAX_REASON: usize = 1000;

/// Changes a host's row.
async fn change(
    parts: &Parts,
    id: &HostId,
    to: impl FnOnce(&mut host::ActiveModel) + Clone + Send + 'static,
) -> Result<()> {
    let id = id.clone();
    // What is shown with an instance has its host's maintenance.
    let write = parts.store.write_with(Invalidates::Everything, move |txn| {
        Box::pin(async move {
            let mut row = locked(txn, &id).await?.into_active_model();
            to(&mut row);
            row.update(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

fn reason(text: &str) -> Result<Option<String>> {
    if text.chars().count() > MAX_REASON {
        let reason = format!("a reason has at most {MAX_REASON} characters");
        return Err(Error::invalid("Reason", text, reason));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// Lets the host take nothing new, and start nothing that is stopped there.
///
/// # Errors
/// `InvalidParameter` for an unknown host or a long reason.
#[boxed]
pub async fn disable(parts: &Parts, id: &HostId, why: &str) -> Result<()> {
    let why = reason(why)?;
    change(parts, id, |row| {
        row.enabled = Set(Flag(false));
        row.draining = Set(None);
        row.disabled_reason = Set(why);
    })
    .await
}

/// Lets the host take new instances again.
///
/// # Errors
/// `InvalidParameter` for an unknown host.
#[boxed]
pub async fn enable(parts: &Parts, id: &HostId) -> Result<()> {
    change(parts, id, |row| {
        row.enabled = Set(Flag(true));
        row.draining = Set(None);
        row.disabled_reason = Set(None);
    })
    .await
}

/// What is left on a host that is being emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The instances that are there: their users terminate them, or stop them for the time of the work.
    pub instances: Vec<InstanceId>,
}

/// Empties the host as far as that can be done without its instances' users: it takes nothing new. What is
/// there stays; the answer names it.
///
/// # Errors
/// Those of [`disable`].
#[boxed]
pub async fn drain(parts: &Parts, id: &HostId, why: &str) -> Result<Drained> {
    let why = reason(why)?;
    change(parts, id, |row| {
        row.enabled = Set(Flag(false));
        row.draining = Set(Some(Flag(true)));
        row.disabled_reason = Set(why);
    })
    .await?;
    let left = on(parts.store.read(), Some(id)).await?;
    Ok(Drained {
        instances: left.into_iter().map(|on| on.id.0).collect(),
    })
}

/// Takes a host out of the cloud that has no instances. One that still runs comes back with its next
/// heartbeat.
///
/// # Errors
/// `InvalidParameter` for an unknown host, or one with instances, which it names.
#[boxed]
pub async fn remove(parts: &Parts, id: &HostId) -> Result<()> {
    let id = id.clone();
    let write = parts
        .store
        .write(move |txn| Box::pin(async move { remove_in(txn, &id).await }));
    write.await
}

async fn remove_in(conn: &impl ConnectionTrait, id: &HostId) -> Result<()> {
    locked(conn, id).await?;
    let there = instance::Entity::find()
        .select_only()
        .column(instance::Column::Id)
        .filter(instance::Column::Host.eq(id.0.as_str()))
        .into_query();
    // A claim charges the row that this deletes: one of the two is first, and the other finds it so.
    let deleted = host::Entity::delete_many()
        .filter(host::Column::Id.eq(id.0.as_str()))
        .filter(host::Column::VcpusUsed.eq(0))
        .filter(host::Column::MemoryMibUsed.eq(0))
        .filter(host::Column::DiskGibUsed.eq(0))
        .filter(sea_orm::sea_query::Expr::exists(there).not())
        .exec(conn)
        .await
        .map_err(failed)?;
    if deleted.rows_affected == 0 {
        let left = on(conn, Some(id)).await?;
        let mut names: Vec<String> = left.iter().take(20).map(|on| on.id.0.to_string()).collect();
        if left.len() > names.len() {
            names.push(format!("and {} more", left.len() - names.len()));
        }
        let reason = format!("instances are on it: {}", names.join(", "));
        return Err(Error::invalid("Host", &id.0, reason));
    }
    aggregate_host::Entity::delete_many()
        .filter(aggregate_host::Column::Host.eq(id.0.as_str()))
        .exec(conn)
        .await
        .map_err(failed)?;
    host_network::Entity::delete_many()
        .filter(host_network::Column::Host.eq(id.0.as_str()))
        .exec(conn)
        .await
        .map_err(failed)
        .map(drop)
}

/// When a host is to be worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From then on its instances may be interrupted.
    pub start: Timestamp,
    /// Until then.
    pub end: Timestamp,
}

/// Plans maintenance: the host's instances show it as a scheduled event.
///
/// # Errors
/// `InvalidParameter` for an unknown host, a window that is over or ends before it begins, a long reason.
#[boxed]
pub async fn plan_maintenance(parts: &Parts, id: &HostId, window: Window, why: &str) -> Result<()> {
    let why = reason(why)?;
    if window.end <= window.start || window.end <= parts.clock.now() {
        let reason = "maintenance ends after it begins, and not in the past";
        return Err(Error::invalid("Window", &window.end.to_string(), reason));
    }
    change(parts, id, move |row| {
        row.maintenance_start = Set(Some(window.start.0));
        row.maintenance_end = Set(Some(window.end.0));
        row.maintenance_reason = Set(why);
    })
    .await
}

/// Takes a plan back.
///
/// # Errors
/// `InvalidParameter` for an unknown host.
#[boxed]
pub async fn cancel_maintenance(parts: &Parts, id: &HostId) -> Result<()> {
    change(parts, id, |row| {
        row.maintenance_start = Set(None);
        row.maintenance_end = Set(None);
        row.maintenance_reason = Set(None);
    })
    .await
}

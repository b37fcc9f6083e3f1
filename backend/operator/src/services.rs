//! The service registry: each role of each process, with its last heartbeat. Roles write one every few
//! seconds, and the operator sees which have fallen silent.

use std::time::Duration;

use cumulet_core::Parts;
use cumulet_domain::{Result, time::Timestamp};
use cumulet_scheduler::SILENCE;
use cumulet_store::{
    Invalidates, Store,
    entity::{host, service},
    failed, rows,
};
use sea_orm::{ActiveValue::Set, EntityTrait, QueryOrder, sea_query::OnConflict};

use crate::boxed;

/// How often each is to call [`heartbeat`].
pub const INTERVAL: Duration = Duration::from_secs(10);

/// A role of a process says that it is there. `id` names it for as long as it lives at that place, such as
/// `conductor@host-1`.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn heartbeat(
    store: &Store,
    id: &str,
    role: &str,
    host: &str,
    version: &str,
    now: Timestamp,
) -> Result<()> {
    use service::Column as C;
    let row = service::ActiveModel {
        id: Set(id.to_owned()),
        role: Set(role.to_owned()),
        host: Set(host.to_owned()),
        version: Set(version.to_owned()),
        last_seen: Set(now.0),
        created_at: Set(now.0),
    };
    let again = OnConflict::column(C::Id)
        .update_columns([C::Role, C::Host, C::Version, C::LastSeen])
        .to_owned();
    let write = store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let insert = service::Entity::insert(row).on_conflict(again);
            insert.exec_without_returning(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// A role of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// What it is called.
    pub id: String,
    /// `gateway`, `conductor`, `scheduler`, `compute` and so on.
    pub role: String,
    /// Where it runs.
    pub host: String,
    /// The program's version, where it tells.
    pub version: String,
    /// When it was heard last.
    pub last_seen: Timestamp,
    /// It was heard of lately.
    pub alive: bool,
}

/// Every role of every process, by role and host. Workers don't know the database; their heartbeats count.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list(parts: &Parts) -> Result<Vec<ServiceView>> {
    let (conn, now) = (parts.store.read(), parts.clock.now());
    let alive = |at: i64| now.since(Timestamp(at)) < SILENCE;
    let rows = service::Entity::find().order_by_asc(service::Column::Id);
    let rows = rows::all(rows, conn).await?;
    let mut all: Vec<ServiceView> = rows
        .into_iter()
        .map(|row| ServiceView {
            alive: alive(row.last_seen),
            id: row.id,
            role: row.role,
            host: row.host,
            version: row.version,
            last_seen: Timestamp(row.last_seen),
        })
        .collect();
    for row in rows::all(host::Entity::find(), conn).await? {
        all.push(ServiceView {
            alive: alive(row.last_seen),
            id: format!("compute@{}", row.id),
            role: "compute".into(),
            host: row.id,
            version: String::new(),
            last_seen: Timestamp(row.last_seen),
        });
    }
    all.sort_by(|a, b| (&a.role, &a.host, &a.id).cmp(&(&b.role, &b.host, &b.id)));
    all.dedup_by(|a, b| a.id == b.id);
    Ok(all)
}

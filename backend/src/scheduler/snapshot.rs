//! The hosts as the database has them, for the pure choice.

use std::time::Duration;

use cumulet_domain::{Result, id::HostId, time::Timestamp};
use sea_orm::{ConnectionTrait, EntityTrait};

use super::{HostState, Refusal, Request, pick};
use crate::{entity::host, store::failed};

/// A host that was not heard of for this long gets nothing new.
const SILENCE: Duration = Duration::from_secs(30);

/// All hosts.
///
/// # Errors
/// Those of the database.
pub async fn hosts(conn: &impl ConnectionTrait, now: Timestamp) -> Result<Vec<HostState>> {
    let rows = host::Entity::find().all(conn).await.map_err(failed)?;
    Ok(rows.into_iter().map(|row| state(row, now)).collect())
}

fn state(row: host::Model, now: Timestamp) -> HostState {
    HostState {
        id: HostId(row.id),
        availability_zone: row.availability_zone,
        enabled: row.enabled != 0,
        alive: now.since(Timestamp(row.last_seen)) < SILENCE,
        free_vcpus: row.vcpus_max - row.vcpus_used,
        free_memory_mib: row.memory_mib_max - row.memory_mib_used,
        free_disk_gib: row.disk_gib_max - row.disk_gib_used,
    }
}

/// How many instances such as this fit now, at most `wanted`; or why none does.
///
/// # Errors
/// Those of the database.
pub async fn could_fit(
    conn: &impl ConnectionTrait,
    now: Timestamp,
    request: &Request,
    wanted: u64,
) -> Result<Result<u64, Refusal>> {
    let hosts = hosts(conn, now).await?;
    Ok(pick(&hosts, request).map(|fitting| {
        let each = |host: &HostState| {
            let by = |free: i64, needed: i64| if needed > 0 { free / needed } else { i64::MAX };
            by(host.free_vcpus, request.vcpus)
                .min(by(host.free_memory_mib, request.memory_mib))
                .min(by(host.free_disk_gib, request.disk_gib))
        };
        let total = fitting
            .iter()
            .fold(0_i64, |sum, i| sum.saturating_add(each(&hosts[*i]).max(0)));
        u64::try_from(total).unwrap_or(0).min(wanted)
    }))
}

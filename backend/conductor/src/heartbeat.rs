//! Heartbeats of hosts, applied to their rows. A host's profile is written only when it has changed; its
//! metrics go with what is written anyway. The addresses that it tells are written down beside those that the
//! operator has confirmed, which alone are gone by. The pool that it reaches is written where it is the cloud's.

use cumulet_domain::{
    Result,
    host::{HostProfile, Metrics, NotReady, SIMULATED},
    id::{HostId, marker::Vpc},
    message::{Heartbeat, HostResources},
    snapshot::SnapshotProgress,
};
use cumulet_operations::specs::tunnel;
use cumulet_store::{
    Invalidates,
    entity::{
        columns::{Amount, Flag, Ipv4, Key},
        host,
    },
    failed, groups, pool, rows, snapshots,
    tunnels::{has_others, unconfirmed, untunnelled},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    sea_query::{Expr, OnConflict},
};

use crate::Conductor;

/// A host's profile, as its row has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Profile {
    architecture: Option<String>,
    capabilities: Option<String>,
}

/// What a heartbeat may change and is not written each time.
#[derive(Debug, Default, FromQueryResult)]
struct Known {
    created_at: Option<i64>,
    confirmed_tunnel: Option<Ipv4>,
    architecture: Option<String>,
    capabilities: Option<String>,
}

/// What of a host a heartbeat writes beside what it always does.
#[derive(Clone, Copy, Debug)]
struct Writes {
    profile: bool,
    resources: bool,
    /// The addresses that it tells count at once.
    addresses: bool,
}

/// A host is there, with these resources; the first heartbeat registers it. What it says is within the limits.
pub(super) async fn apply(conductor: &Conductor, id: HostId, mut heartbeat: Heartbeat) -> Result<()> {
    let snapshots = std::mem::take(&mut heartbeat.snapshots);
    register(conductor, id.clone(), heartbeat).await?;
    // The host's row is written: a heartbeat that came again would be an old one. This comes with the next.
    if let Err(error) = progress(conductor, id, snapshots).await {
        tracing::warn!(%error, "how far snapshots have come could not be kept");
    }
    Ok(())
}

/// How far it has come with the snapshots that it takes. In a transaction of its own, so that the host's row is free.
async fn progress(conductor: &Conductor, id: HostId, told: Vec<SnapshotProgress>) -> Result<()> {
    if told.is_empty() {
        return Ok(());
    }
    let write = conductor.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let ids: Vec<i64> = told.iter().map(|each| each.id.to_db()).collect();
            snapshots::lock(txn, &ids).await?;
            snapshots::progressed(txn, &id.0, &told).await
        })
    });
    write.await
}

/// What it says of itself is in its row, which its first heartbeat makes.
async fn register(conductor: &Conductor, id: HostId, mut heartbeat: Heartbeat) -> Result<()> {
    look_at_pool(conductor, &mut heartbeat).await?;
    let told = heartbeat.profile.as_deref().and_then(profile);
    let tunnel = heartbeat.tunnel_address.map(Ipv4);
    // A host that can't tell what it has yet has what it had.
    let resources = heartbeat.resources != HostResources::default();
    let addresses = conductor.settings.hosts_are_here;
    let real = heartbeat.hypervisor != SIMULATED;
    let row = row(conductor, &id, heartbeat, told.clone().unwrap_or_default());
    let write = conductor.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let known = known(txn, &id).await?;
            let moved = match addresses {
                true => taken_over(txn, &id, known.confirmed_tunnel, tunnel).await?,
                false => Vec::new(),
            };
            let why = match addresses {
                true => None,
                false => astray(txn, &id, tunnel, &known, real).await?,
            };
            let row = match why {
                // What the host says of itself comes first.
                Some(why) if matches!(row.not_ready_reason, Set(None)) => host::ActiveModel {
                    not_ready_reason: Set(Some(why.reason)),
                    not_ready_cure: Set(why.cure),
                    ..row
                },
                _ => row,
            };
            let before = Profile {
                architecture: known.architecture,
                capabilities: known.capabilities,
            };
            let writes = Writes {
                profile: told.is_some_and(|told| told != before),
                resources,
                addresses,
            };
            let insert = host::Entity::insert(row).on_conflict(update(writes));
            insert.exec_without_returning(txn).await.map_err(failed)?;
            groups::bump_policy(txn, moved).await
        })
    });
    write.await
}

/// There is one pool for a cloud. A host that reaches another one reaches none of the volumes, and the operator is told.
async fn look_at_pool(conductor: &Conductor, heartbeat: &mut Heartbeat) -> Result<()> {
    let Some(told) = heartbeat.rbd.take() else {
        return Ok(());
    };
    let agreed = pool::agreed(&conductor.store, &told).await?;
    if agreed == told {
        heartbeat.rbd = Some(told);
        return Ok(());
    }
    heartbeat.problems.push(format!(
        "it reaches the pool {told}, and this cloud's volumes are in {agreed}: no volume of the pool comes to it; \
         correct its section [ceph], or, if the cloud's pool is to be another, run `cumulet admin host forget-pool`"
    ));
    Ok(())
}

/// What is the matter with where its tunnels end, if something is.
async fn astray(
    conn: &impl ConnectionTrait,
    id: &HostId,
    told: Option<Ipv4>,
    known: &Known,
    real: bool,
) -> Result<Option<NotReady>> {
    if told.is_some() || known.confirmed_tunnel.is_some() || !real {
        return Ok(unconfirmed(id, told, known.confirmed_tunnel));
    }
    let needed = has_others(conn, id, known.created_at).await?;
    Ok(needed.then(|| untunnelled(id)))
}

/// The host has its address from now on, whoever had it before: the machine's name may have changed. The VPCs that
/// have to hear of it.
async fn taken_over(
    conn: &impl ConnectionTrait,
    id: &HostId,
    before: Option<Ipv4>,
    address: Option<Ipv4>,
) -> Result<Vec<Key<Vpc>>> {
    if before != address && address.is_some() {
        use host::Column as C;
        let others = host::Entity::update_many()
            .col_expr(C::ConfirmedTunnel, Expr::value(Option::<i64>::None))
            .filter(C::ConfirmedTunnel.eq(address))
            .filter(C::Id.ne(id.0.as_str()));
        others.exec(conn).await.map_err(failed)?;
    }
    tunnel::moved(conn, id, before, address).await
}

fn row(conductor: &Conductor, id: &HostId, heartbeat: Heartbeat, profile: Profile) -> host::ActiveModel {
    let (now, settings) = (conductor.clock.now().0, &conductor.settings);
    let (vcpus, memory, disk) = (
        Amount(heartbeat.resources.vcpus.into()),
        Amount(heartbeat.resources.memory_mib),
        Amount(heartbeat.resources.disk_gib),
    );
    let NotReady { reason, cure } = heartbeat.not_ready.clone().unwrap_or_default();
    let tunnel = heartbeat.tunnel_address.map(Ipv4);
    let trusted = settings.hosts_are_here;
    host::ActiveModel {
        id: Set(id.0.clone()),
        not_ready_cure: Set(cure),
        not_ready_reason: Set(heartbeat.not_ready.as_ref().map(|_| reason)),
        metrics: Set(metrics(&heartbeat.metrics)),
        problems: Set(problems(&heartbeat.problems)),
        disk_key: Set(heartbeat.disk_key),
        rbd: Set(heartbeat.rbd),
        tunnel_address: Set(tunnel),
        confirmed_tunnel: Set(tunnel.filter(|_| trusted)),
        confirmed_console: Set(heartbeat.console_address.clone().filter(|_| trusted)),
        console_address: Set(heartbeat.console_address),
        availability_zone: Set(heartbeat.availability_zone),
        hypervisor: Set(heartbeat.hypervisor),
        enabled: Set(Flag(true)),
        vcpus: Set(vcpus),
        memory_mib: Set(memory),
        disk_gib: Set(disk),
        vcpus_max: Set(scaled(vcpus, settings.cpu_allocation_ratio)),
        memory_mib_max: Set(scaled(memory, settings.ram_allocation_ratio)),
        disk_gib_max: Set(scaled(disk, settings.disk_allocation_ratio)),
        vcpus_used: Set(0),
        memory_mib_used: Set(0),
        disk_gib_used: Set(0),
        last_seen: Set(now),
        created_at: Set(now),
        architecture: Set(profile.architecture),
        capabilities: Set(profile.capabilities),
        ..Default::default()
    }
}

/// What a heartbeat writes of a host that is known.
fn update(writes: Writes) -> OnConflict {
    use host::Column as C;
    let told = [
        C::AvailabilityZone,
        C::Hypervisor,
        C::TunnelAddress,
        C::ConsoleAddress,
        C::Metrics,
        C::NotReadyReason,
        C::NotReadyCure,
        C::Problems,
        C::DiskKey,
        C::Rbd,
        C::LastSeen,
    ];
    let has = [C::Vcpus, C::MemoryMib, C::DiskGib];
    let derived = [C::VcpusMax, C::MemoryMibMax, C::DiskGibMax];
    let resources = writes.resources.then(|| has.into_iter().chain(derived));
    let profile = writes.profile.then_some([C::Architecture, C::Capabilities]);
    let addresses = writes
        .addresses
        .then_some([C::ConfirmedTunnel, C::ConfirmedConsole]);
    let columns = told
        .into_iter()
        .chain(resources.into_iter().flatten())
        .chain(profile.into_iter().flatten())
        .chain(addresses.into_iter().flatten());
    OnConflict::column(C::Id).update_columns(columns).to_owned()
}

async fn known(conn: &impl ConnectionTrait, id: &HostId) -> Result<Known> {
    use host::Column as C;
    // Locked: a placement that makes the host have to do with another VPC is done, and seen by
    // `tunnel::moved`, or comes after this and tells the new address.
    let query = host::Entity::find_by_id(id.0.as_str())
        .select_only()
        .columns([
            C::Id,
            C::CreatedAt,
            C::ConfirmedTunnel,
            C::Architecture,
            C::Capabilities,
        ])
        .lock_exclusive();
    let mut known = rows::selected(query, conn).await?;
    Ok(known.pop().unwrap_or_default())
}

/// What a host says that it is, as it is written.
fn profile(told: &HostProfile) -> Option<Profile> {
    let capabilities = serde_json::to_string(&told.capabilities).ok()?;
    Some(Profile {
        architecture: told.architecture.clone(),
        capabilities: (!told.capabilities.is_empty()).then_some(capabilities),
    })
}

/// A host's metrics, as they are written. Old ones are no use: where there are none now, none are kept.
fn metrics(told: &Metrics) -> Option<String> {
    let text = serde_json::to_string(told).ok()?;
    (!told.is_empty()).then_some(text)
}

/// What a host says is not as it should be, as it is written.
fn problems(told: &[String]) -> Option<String> {
    let text = serde_json::to_string(told).ok()?;
    (!told.is_empty()).then_some(text)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a ratio of a count; saturates
fn scaled(count: Amount, ratio: f64) -> Amount {
    Amount((count.0 as f64 * ratio).floor() as u64)
}

#[cfg(test)]
mod tests {
    use sea_orm::{DbBackend, QueryTrait as _};

    use super::*;

    #[test]
    fn a_heartbeat_writes_what_a_host_is_only_when_that_has_changed_and_what_it_has_only_when_it_is_told() {
        let written = |profile, resources, addresses| {
            let writes = Writes {
                profile,
                resources,
                addresses,
            };
            let row = host::ActiveModel {
                id: Set("a".into()),
                capabilities: Set(Some("{}".into())),
                ..Default::default()
            };
            let insert = host::Entity::insert(row).on_conflict(update(writes));
            let statement = insert.build(DbBackend::Sqlite).to_string();
            let (_, update) = statement.split_once("ON CONFLICT").unwrap();
            let has = |column: &str| update.contains(&format!("\"{column}\" = "));
            assert!(
                has("last_seen") && has("metrics") && has("not_ready_reason") && has("tunnel_address"),
                "{update}"
            );
            assert_eq!(has("architecture"), has("capabilities"), "{update}");
            assert_eq!(has("vcpus"), has("disk_gib_max"), "{update}");
            assert_eq!(has("confirmed_tunnel"), has("confirmed_console"), "{update}");
            (has("capabilities"), has("vcpus"), has("confirmed_tunnel"))
        };
        for number in 0..8 {
            let [profile, resources, addresses] = [1, 2, 4].map(|bit| number & bit != 0);
            let expected = (profile, resources, addresses);
            assert_eq!(written(profile, resources, addresses), expected);
        }
    }
}

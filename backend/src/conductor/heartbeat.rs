//! Heartbeats of hosts, applied to their rows. A host's profile is written only when it has changed; its
//! metrics go with what is written anyway.

use cumulet_domain::{
    Result,
    console::MAX_ADDRESS,
    host::{HostProfile, Metrics, NotReady, check_metrics, check_name},
    id::HostId,
    message::{Heartbeat, HostResources},
};
use sea_orm::{
    ActiveValue::Set, ConnectionTrait, EntityTrait, FromQueryResult, QuerySelect, sea_query::OnConflict,
};

use super::{Conductor, tunnel};
use crate::{
    entity::host,
    store::{Invalidates, failed, groups},
};

/// A host's profile, as its row has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Profile {
    architecture: Option<String>,
    capabilities: Option<String>,
}

/// What a heartbeat may change and is not written each time.
#[derive(Debug, Default, FromQueryResult)]
struct Known {
    tunnel_address: Option<i64>,
    architecture: Option<String>,
    capabilities: Option<String>,
}

/// A host is there, with these resources; the first heartbeat registers it.
pub(super) async fn apply(conductor: &Conductor, id: HostId, heartbeat: Heartbeat) -> Result<()> {
    let names = [
        ("its hypervisor's name", &heartbeat.hypervisor),
        ("its zone's name", &heartbeat.availability_zone),
    ];
    let wrong = names.map(|(what, name)| check_name(what, name).err());
    if let Some(reason) = wrong.into_iter().flatten().next() {
        // It would be as wrong the next time.
        tracing::warn!(host = %id, reason, "a heartbeat is dropped");
        return Ok(());
    }
    let told = heartbeat.profile.as_deref().and_then(|told| profile(&id, told));
    let tunnel = heartbeat.tunnel_address.map(|a| i64::from(u32::from(a)));
    // A host that can't tell what it has yet has what it had.
    let has_told = heartbeat.resources != HostResources::default();
    let row = host::ActiveModel {
        tunnel_address: Set(tunnel),
        ..row(conductor, &id, heartbeat, told.clone().unwrap_or_default())
    };
    let write = conductor.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let known = known(txn, &id).await?;
            let moved = tunnel::moved(txn, &id, known.tunnel_address, tunnel).await?;
            let before = Profile {
                architecture: known.architecture,
                capabilities: known.capabilities,
            };
            let changed = told.is_some_and(|told| told != before);
            let insert = host::Entity::insert(row).on_conflict(update(changed, has_told));
            insert.exec_without_returning(txn).await.map_err(failed)?;
            groups::bump_policy(txn, moved).await
        })
    });
    write.await
}

fn row(conductor: &Conductor, id: &HostId, heartbeat: Heartbeat, profile: Profile) -> host::ActiveModel {
    let (now, settings) = (conductor.clock.now().0, &conductor.settings);
    let (vcpus, memory, disk) = (
        i64::from(heartbeat.resources.vcpus),
        i64::try_from(heartbeat.resources.memory_mib).unwrap_or(i64::MAX),
        i64::try_from(heartbeat.resources.disk_gib).unwrap_or(i64::MAX),
    );
    let not_ready = heartbeat.not_ready.map(NotReady::within_limits);
    host::ActiveModel {
        id: Set(id.0.clone()),
        not_ready_cure: Set(not_ready.as_ref().and_then(|told| told.cure.clone())),
        not_ready_reason: Set(not_ready.map(|told| told.reason)),
        metrics: Set(metrics(id, &heartbeat.metrics)),
        availability_zone: Set(heartbeat.availability_zone),
        hypervisor: Set(heartbeat.hypervisor),
        enabled: Set(1),
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
        console_address: Set(heartbeat.console_address.filter(|text| text.len() <= MAX_ADDRESS)),
        architecture: Set(profile.architecture),
        capabilities: Set(profile.capabilities),
        ..Default::default()
    }
}

/// What a heartbeat writes of a host that is known.
fn update(profile: bool, resources: bool) -> OnConflict {
    use host::Column as C;
    let told = [
        C::AvailabilityZone,
        C::Hypervisor,
        C::TunnelAddress,
        C::ConsoleAddress,
        C::Metrics,
        C::NotReadyReason,
        C::NotReadyCure,
        C::LastSeen,
    ];
    let has = [C::Vcpus, C::MemoryMib, C::DiskGib];
    let derived = [C::VcpusMax, C::MemoryMibMax, C::DiskGibMax];
    let resources = resources.then(|| has.into_iter().chain(derived));
    let profile = profile.then_some([C::Architecture, C::Capabilities]);
    let columns = told
        .into_iter()
        .chain(resources.into_iter().flatten())
        .chain(profile.into_iter().flatten());
    OnConflict::column(C::Id).update_columns(columns).to_owned()
}

async fn known(conn: &impl ConnectionTrait, id: &HostId) -> Result<Known> {
    use host::Column as C;
    // Locked: a placement that makes the host have to do with another VPC is done, and seen by
    // `tunnel::moved`, or comes after this and tells the new address.
    let query = host::Entity::find_by_id(id.0.as_str())
        .select_only()
        .columns([C::TunnelAddress, C::Architecture, C::Capabilities])
        .lock_exclusive();
    let known = query.into_model().one(conn).await.map_err(failed)?;
    Ok(known.unwrap_or_default())
}

/// What a host says that it is, as it is written; `None`, as if it had not been told, where it is too much.
fn profile(id: &HostId, told: &HostProfile) -> Option<Profile> {
    if let Err(reason) = told.check() {
        tracing::warn!(host = %id, reason, "what a host says that it is can't be taken");
        return None;
    }
    let capabilities = serde_json::to_string(&told.capabilities).ok()?;
    Some(Profile {
        architecture: told.architecture.clone(),
        capabilities: (!told.capabilities.is_empty()).then_some(capabilities),
    })
}

/// A host's metrics, as they are written. Old ones are no use: where there are none now, none are kept.
fn metrics(id: &HostId, told: &Metrics) -> Option<String> {
    if let Err(reason) = check_metrics(told) {
        tracing::warn!(host = %id, reason, "a host's metrics can't be taken");
        return None;
    }
    let text = serde_json::to_string(told).ok()?;
    (!told.is_empty()).then_some(text)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a ratio of a count; saturates
fn scaled(count: i64, ratio: f64) -> i64 {
    (count as f64 * ratio).floor() as i64
}

#[cfg(test)]
mod tests {
    use sea_orm::{DbBackend, QueryTrait as _};

    use super::*;

    #[test]
    fn a_heartbeat_writes_what_a_host_is_only_when_that_has_changed_and_what_it_has_only_when_it_is_told() {
        let written = |changed, resources| {
            let row = host::ActiveModel {
                id: Set("a".into()),
                capabilities: Set(Some("{}".into())),
                ..Default::default()
            };
            let insert = host::Entity::insert(row).on_conflict(update(changed, resources));
            let statement = insert.build(DbBackend::Sqlite).to_string();
            let (_, update) = statement.split_once("ON CONFLICT").unwrap();
            let has = |column: &str| update.contains(&format!("\"{column}\" = "));
            assert!(
                has("last_seen") && has("metrics") && has("not_ready_reason"),
                "{update}"
            );
            assert_eq!(has("architecture"), has("capabilities"), "{update}");
            assert_eq!(has("vcpus"), has("disk_gib_max"), "{update}");
            (has("capabilities"), has("vcpus"))
        };
        for (changed, resources) in [(true, true), (false, true), (true, false), (false, false)] {
            assert_eq!(written(changed, resources), (changed, resources));
        }
    }
}

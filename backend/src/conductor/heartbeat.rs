//! Hosts that say that they are there: their rows.

use cumulet_domain::{Result, console::MAX_ADDRESS, id::HostId, message::HostResources};
use sea_orm::{ActiveValue::Set, EntityTrait, sea_query::OnConflict};

use super::{Conductor, tunnel};
use crate::{
    entity::host,
    store::{Touches, failed, groups},
};

/// A host is there, with these resources; the first heartbeat registers it.
pub(super) async fn apply(
    conductor: &Conductor,
    id: HostId,
    resources: HostResources,
    hypervisor: String,
    availability_zone: String,
    tunnel: Option<i64>,
    console: Option<String>,
) -> Result<()> {
    let (now, settings) = (conductor.clock.now().0, &conductor.settings);
    let (vcpus, memory, disk) = (
        i64::from(resources.vcpus),
        i64::try_from(resources.memory_mib).unwrap_or(i64::MAX),
        i64::try_from(resources.disk_gib).unwrap_or(i64::MAX),
    );
    let row = host::ActiveModel {
        id: Set(id.0.clone()),
        availability_zone: Set(availability_zone),
        hypervisor: Set(hypervisor),
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
        tunnel_address: Set(tunnel),
        console_address: Set(console.filter(|text| text.len() <= MAX_ADDRESS)),
        ..Default::default()
    };
    use host::Column as C;
    let told = [
        C::AvailabilityZone,
        C::Hypervisor,
        C::Vcpus,
        C::MemoryMib,
        C::DiskGib,
        C::TunnelAddress,
        C::ConsoleAddress,
    ];
    let derived = [C::VcpusMax, C::MemoryMibMax, C::DiskGibMax, C::LastSeen];
    let update = OnConflict::column(C::Id)
        .update_columns(told.into_iter().chain(derived))
        .to_owned();
    let write = conductor.store.write_touching(Touches::Nothing, move |txn| {
        Box::pin(async move {
            let moved = tunnel::moved(txn, &id, tunnel).await?;
            let insert = host::Entity::insert(row).on_conflict(update);
            insert.exec_without_returning(txn).await.map_err(failed)?;
            groups::bump_policy(txn, moved).await
        })
    });
    write.await
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a ratio of a count; saturates
fn scaled(count: i64, ratio: f64) -> i64 {
    (count as f64 * ratio).floor() as i64
}

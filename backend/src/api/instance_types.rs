//! The instance type catalogue: a table that the operator may edit.

use cumulet_domain::{Error, Result, account::Principal, catalogue::InstanceType};
use sea_orm::{ConnectionTrait, EntityTrait};

use super::Cloud;
use crate::{
    authority::authorise,
    entity::{host, instance_type},
    store::failed,
};

/// The offered types, or the named ones whether offered or not; the smallest first.
///
/// # Errors
/// `InvalidParameter` for a name that is not there.
pub async fn describe(cloud: &Cloud, who: &Principal, names: &[String]) -> Result<Vec<InstanceType>> {
    authorise(who, "DescribeInstanceTypes", false)?;
    let rows = instance_type::Entity::find()
        .all(cloud.store.read())
        .await
        .map_err(failed)?;
    if let Some(name) = names
        .iter()
        .find(|name| !rows.iter().any(|row| row.name == **name))
    {
        return Err(unknown(name));
    }
    let wanted = |row: &instance_type::Model| {
        if names.is_empty() {
            row.offered != 0
        } else {
            names.contains(&row.name)
        }
    };
    let mut types: Vec<InstanceType> = rows.into_iter().filter(wanted).map(domain).collect();
    types.sort_by(|a, b| (a.vcpus, a.memory_mib, &a.name).cmp(&(b.vcpus, b.memory_mib, &b.name)));
    Ok(types)
}

/// How many instances of a type a zone has room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The zone's name.
    pub availability_zone: String,
    /// With nothing running.
    pub max: u64,
    /// Now.
    pub available: u64,
}

/// The room that the zones have for each of these types, in their order.
///
/// # Errors
/// Those of the database.
pub async fn room(cloud: &Cloud, who: &Principal, types: &[InstanceType]) -> Result<Vec<Vec<Room>>> {
    authorise(who, "DescribeInstanceTypes", false)?;
    let hosts = host::Entity::find()
        .all(cloud.store.read())
        .await
        .map_err(failed)?;
    let zones = &cloud.config.availability_zones;
    Ok(types
        .iter()
        .map(|kind| zones.iter().map(|zone| room_in(zone, &hosts, kind)).collect())
        .collect())
}

fn room_in(zone: &str, hosts: &[host::Model], kind: &InstanceType) -> Room {
    let fit = |vcpus: i64, memory: i64| {
        let [vcpus, memory] = [vcpus, memory].map(|n| u64::try_from(n).unwrap_or(0));
        (vcpus / u64::from(kind.vcpus).max(1)).min(memory / kind.memory_mib.max(1))
    };
    let hosts = hosts
        .iter()
        .filter(|host| host.enabled != 0 && host.availability_zone == zone);
    let (max, available) = hosts.fold((0, 0), |(max, available), host| {
        let free = fit(
            host.vcpus_max - host.vcpus_used,
            host.memory_mib_max - host.memory_mib_used,
        );
        (max + fit(host.vcpus_max, host.memory_mib_max), available + free)
    });
    Room {
        availability_zone: zone.to_owned(),
        max,
        available,
    }
}

fn domain(row: instance_type::Model) -> InstanceType {
    InstanceType {
        name: row.name,
        vcpus: u32::try_from(row.vcpus).unwrap_or(0),
        memory_mib: u64::try_from(row.memory_mib).unwrap_or(0),
        offered: row.offered != 0,
    }
}

/// The type of a new instance.
pub(crate) async fn offered(conn: &impl ConnectionTrait, name: &str) -> Result<instance_type::Model> {
    let row = instance_type::Entity::find_by_id(name)
        .one(conn)
        .await
        .map_err(failed)?;
    row.filter(|row| row.offered != 0).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Error {
    Error::invalid("InstanceType", name, "there is no such instance type")
}

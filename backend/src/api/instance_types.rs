//! The instance type catalogue: a table that the operator may edit.

use cumulet_domain::{Error, Result, account::Principal, catalogue::InstanceType};
use sea_orm::{ConnectionTrait, EntityTrait};

use super::Cloud;
use crate::{authority::authorise, entity::instance_type, store::failed};

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

//! The instance type catalogue: a table that the operator may edit.

use cumulet_core::{Parts, RequestContext};
use cumulet_domain::{Error, Result, account::Principal, catalogue::InstanceType};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    entity::{host, instance_type, instance_type_spec},
    failed, rows,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::OnConflict,
};

use crate::boxed;

/// The offered types, or the named ones whether offered or not; the smallest first.
///
/// # Errors
/// `UnknownInstanceTypes` with all the names that are not there.
#[boxed]
pub async fn describe(cx: &RequestContext, who: &Principal, names: &[String]) -> Result<Vec<InstanceType>> {
    cx.authorise(who, Permission::DESCRIBE_INSTANCE_TYPES)?;
    let rows = rows::sound::<_, instance_type::Model>(instance_type::Entity::find(), cx.store.read());
    let rows = rows.await?.rows;
    let there = |name: &String| rows.iter().any(|row| row.name == *name);
    let mut unknown: Vec<String> = Vec::new();
    for name in names.iter().filter(|name| !there(name)).map(|name| cut(name)) {
        if !unknown.contains(&name) {
            unknown.push(name);
        }
    }
    if !unknown.is_empty() {
        return Err(Error::UnknownInstanceTypes { names: unknown });
    }
    let wanted = |row: &&instance_type::Model| {
        if names.is_empty() {
            row.offered.0
        } else {
            names.contains(&row.name)
        }
    };
    let types = rows.iter().filter(wanted).map(domain);
    let mut types: Vec<InstanceType> = types.collect();
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
#[boxed]
pub async fn room(cx: &RequestContext, who: &Principal, types: &[InstanceType]) -> Result<Vec<Vec<Room>>> {
    cx.authorise(who, Permission::DESCRIBE_INSTANCE_TYPES)?;
    // What every account asks for: a host whose row is damaged has no room, and stops no answer.
    let hosts = rows::sound::<_, host::Model>(host::Entity::find(), cx.store.read()).await?;
    let hosts = hosts.rows;
    let zones = &cx.config.availability_zones;
    let rooms =
        |kind: &InstanceType| -> Vec<Room> { zones.iter().map(|zone| room_in(zone, &hosts, kind)).collect() };
    Ok(types.iter().map(rooms).collect())
}

fn room_in(zone: &str, hosts: &[host::Model], kind: &InstanceType) -> Room {
    let fit =
        |vcpus: u64, memory: u64| (vcpus / u64::from(kind.vcpus).max(1)).min(memory / kind.memory_mib.max(1));
    let (mut max, mut available) = (0, 0);
    for host in hosts
        .iter()
        .filter(|host| host.enabled.0 && host.availability_zone == zone)
    {
        let (vcpus, memory) = (host.vcpus_max.0, host.memory_mib_max.0);
        max += fit(vcpus, memory);
        // One that has more than its ratio allows since that was lowered has room for none.
        available += fit(
            vcpus.saturating_sub(host.vcpus_used.max(0).cast_unsigned()),
            memory.saturating_sub(host.memory_mib_used.max(0).cast_unsigned()),
        );
    }
    Room {
        availability_zone: zone.to_owned(),
        max,
        available,
    }
}

fn domain(row: &instance_type::Model) -> InstanceType {
    InstanceType {
        name: row.name.clone(),
        vcpus: row.vcpus.0,
        memory_mib: row.memory_mib.0,
        offered: row.offered.0,
    }
}

/// The type of a new instance.
pub async fn offered(conn: &impl ConnectionTrait, name: &str) -> Result<instance_type::Model> {
    let row = rows::one(instance_type::Entity::find_by_id(name), conn).await?;
    row.filter(|row| row.offered.0).ok_or_else(|| unknown(name))
}

/// The extra specifications of every type that has some, by type and key. For the operator.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn extra_specs(parts: &Parts) -> Result<Vec<instance_type_spec::Model>> {
    use instance_type_spec::Column as C;
    let query = instance_type_spec::Entity::find()
        .order_by_asc(C::InstanceType)
        .order_by_asc(C::Key);
    rows::all(query, parts.store.read()).await
}

/// Sets an extra specification of a type, what it wants of a host, or removes it where there is no value.
/// It counts from the next placement on. For the operator.
///
/// # Errors
/// `UnknownInstanceType`; `InvalidParameter` for a key or value that is empty or too long.
#[boxed]
pub async fn set_extra_spec(parts: &Parts, kind: &str, key: &str, value: Option<&str>) -> Result<()> {
    use instance_type_spec::Column as C;
    for (name, text, most) in [("Key", key, 255), ("Value", value.unwrap_or("-"), 4096)] {
        if text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
            let reason = format!("expected 1 to {most} printable characters");
            return Err(Error::invalid(name, text, reason));
        }
    }
    let (kind, key, value) = (kind.to_owned(), key.to_owned(), value.map(str::to_owned));
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let there = rows::one(instance_type::Entity::find_by_id(kind.as_str()), txn).await?;
            let name = there.ok_or_else(|| unknown(&kind))?.name;
            let Some(value) = value else {
                let delete = instance_type_spec::Entity::delete_many()
                    .filter(C::InstanceType.eq(name))
                    .filter(C::Key.eq(key));
                return delete.exec(txn).await.map(drop).map_err(failed);
            };
            let row = instance_type_spec::ActiveModel {
                instance_type: Set(name),
                key: Set(key),
                value: Set(value),
            };
            let keys = OnConflict::columns([C::InstanceType, C::Key])
                .update_column(C::Value)
                .to_owned();
            let insert = instance_type_spec::Entity::insert(row).on_conflict(keys);
            insert.exec_without_returning(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

fn unknown(name: &str) -> Error {
    Error::UnknownInstanceType { name: cut(name) }
}

/// What a sentence repeats of a name.
fn cut(name: &str) -> String {
    name.chars().take(128).collect()
}

//! Compares what the database says with what is on this host: guests, disks, network devices, firewall,
//! DHCP. Every difference is a line; none is a healthy cloud.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use cumulet_backend::{
    api::Parts,
    bootstrap,
    entity::{host, instance, interface},
    store::settings,
};
use cumulet_domain::{
    id::{InstanceId, NetworkInterfaceId, VpcId},
    instance::State,
};
use cumulet_worker::{HostObject, ObjectKind};
use sea_orm::EntityTrait;
use serde::Serialize;

use crate::{config::Config, state::StateDir, wiring};

/// What an audit found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Audit {
    /// How many things were compared.
    pub(crate) compared: usize,
    /// What does not agree, in words.
    pub(crate) differences: Vec<String>,
}

/// Audits this host. `given` says that the configuration's driver was named by the operator; otherwise
/// the one that the cloud last ran with is used.
pub(crate) async fn run(state: &StateDir, parts: &Parts, config: Config, given: bool) -> Result<Audit> {
    let config = if given {
        config
    } else {
        with_last_driver(parts, config).await?
    };
    let first = bootstrap::existing(parts.store.read()).await?;
    let first = first.ok_or_else(|| anyhow::anyhow!("the cloud has not been started yet"))?;
    let expected = Expected::load(parts).await?;
    let found = wiring::inventory(state, &config, &first.cloud_id).await?;
    Ok(compare(&expected, &found, config.text("driver") == "fake"))
}

async fn with_last_driver(parts: &Parts, config: Config) -> Result<Config> {
    Ok(match settings::get(parts.store.read(), wiring::DRIVER).await? {
        Some(driver) => config.with("driver", driver),
        None => config,
    })
}

/// The rows that something on a host must answer to.
#[derive(Debug, Default)]
struct Expected {
    instances: BTreeMap<InstanceId, (State, Option<String>, VpcId)>,
    interfaces: BTreeMap<NetworkInterfaceId, InstanceId>,
    claims: Vec<String>,
}

impl Expected {
    async fn load(parts: &Parts) -> Result<Self> {
        let conn = parts.store.read();
        let rows = instance::Entity::find().all(conn).await?;
        let claims = claims(&rows, &host::Entity::find().all(conn).await?);
        let state = |row: &instance::Model| State::from_name(&row.state).unwrap_or(State::Terminated);
        let instances = rows.iter().map(|row| {
            (
                InstanceId::from_db(row.id),
                (state(row), row.host.clone(), VpcId::from_db(row.vpc)),
            )
        });
        let interfaces = interface::Entity::find().all(conn).await?;
        let interfaces = interfaces.iter().map(|row| {
            (
                NetworkInterfaceId::from_db(row.id),
                InstanceId::from_db(row.instance),
            )
        });
        Ok(Expected {
            instances: instances.collect(),
            interfaces: interfaces.collect(),
            claims,
        })
    }

    fn state(&self, instance: InstanceId) -> Option<State> {
        self.instances.get(&instance).map(|(state, _, _)| *state)
    }
}

/// Each host's counters against the sum of its instances: nothing leaks and nothing is oversold.
fn claims(rows: &[instance::Model], hosts: &[host::Model]) -> Vec<String> {
    let mut differences = Vec::new();
    for host in hosts {
        let on = || {
            rows.iter()
                .filter(|row| row.host.as_deref() == Some(host.id.as_str()))
        };
        let claimed = || on().filter(|row| row.claimed != 0);
        let sums = [
            (
                "vCPUs",
                claimed().map(|row| row.vcpus).sum::<i64>(),
                host.vcpus_used,
                host.vcpus_max,
            ),
            (
                "MiB of memory",
                claimed().map(|row| row.memory_mib).sum(),
                host.memory_mib_used,
                host.memory_mib_max,
            ),
            (
                "GiB of disk",
                on().map(|row| row.disk_gib).sum(),
                host.disk_gib_used,
                host.disk_gib_max,
            ),
        ];
        for (what, sum, used, max) in sums {
            if sum != used {
                differences.push(format!(
                    "host {}: {used} {what} are claimed, its instances have {sum}",
                    host.id
                ));
            }
            if used > max && what != "GiB of disk" {
                differences.push(format!("host {}: {used} {what} are claimed of {max}", host.id));
            }
        }
    }
    differences
}

/// The comparison itself. A simulated host has no disk and no network worth comparing.
fn compare(expected: &Expected, found: &[HostObject], simulated: bool) -> Audit {
    let mut audit = Audit {
        compared: expected.instances.len() + found.len(),
        differences: expected.claims.clone(),
    };
    for object in found {
        audit.differences.extend(unexpected(expected, object));
    }
    let have = |kind: ObjectKind| -> BTreeSet<InstanceId> {
        found
            .iter()
            .filter(|object| object.kind == kind)
            .filter_map(|object| object.instance)
            .collect()
    };
    let (domains, disks) = (have(ObjectKind::Domain), have(ObjectKind::Disk));
    let interfaces: BTreeSet<_> = found.iter().filter_map(|object| object.interface).collect();
    for (id, (state, host, _)) in &expected.instances {
        if host.is_none() || state.is_transient() || *state == State::Terminated {
            continue;
        }
        if *state == State::Running && !domains.contains(id) {
            audit
                .differences
                .push(format!("{id} is running in the database and has no guest"));
        }
        if !simulated && !disks.contains(id) {
            audit.differences.push(format!(
                "{id} is {} in the database and has no disk",
                state.name()
            ));
        }
    }
    if !simulated {
        audit.differences.extend(unguarded(expected, found));
    }
    for (interface, instance) in &expected.interfaces {
        let running = expected.state(*instance) == Some(State::Running);
        if !simulated && running && !interfaces.contains(interface) {
            audit
                .differences
                .push(format!("{interface} of {instance} is not on the host"));
        }
    }
    audit
}

/// VPCs whose instances run without something that guards or serves them.
fn unguarded(expected: &Expected, found: &[HostObject]) -> Vec<String> {
    let running = expected
        .instances
        .values()
        .filter(|(state, _, _)| *state == State::Running);
    let vpcs: BTreeSet<VpcId> = running.map(|(_, _, vpc)| *vpc).collect();
    let has = |vpc, kind| {
        found
            .iter()
            .any(|object| object.vpc == Some(vpc) && object.kind == kind)
    };
    let needed = [ObjectKind::Namespace, ObjectKind::Firewall, ObjectKind::Dhcp];
    let pairs = vpcs.iter().flat_map(|vpc| needed.map(|kind| (*vpc, kind)));
    let missing = pairs.filter(|(vpc, kind)| !has(*vpc, *kind));
    missing
        .map(|(vpc, kind)| format!("instances of {vpc} run without its {kind:?}"))
        .collect()
}

/// Why a thing on the host should not be there, if it should not.
fn unexpected(expected: &Expected, object: &HostObject) -> Option<String> {
    let kind = object.kind;
    let ended = |state: Option<State>| state.is_none_or(|state| state == State::Terminated);
    if let Some(id) = object.instance {
        let state = expected.state(id);
        if ended(state) {
            let state = state.map_or("unknown", State::name);
            return Some(format!(
                "a {kind:?} of {id} is on the host; the instance is {state}"
            ));
        }
        if kind == ObjectKind::Domain && object.on && state == Some(State::Stopped) {
            return Some(format!("{id} is stopped in the database and its guest runs"));
        }
        return None;
    }
    if let Some(id) = object.interface {
        let owner = expected.interfaces.get(&id);
        if ended(owner.and_then(|instance| expected.state(*instance))) {
            return Some(format!(
                "a {kind:?} {id} is on the host and belongs to no living instance"
            ));
        }
        return None;
    }
    let vpc = object.vpc?;
    let used = expected.instances.values().any(|(state, host, of)| {
        *of == vpc && host.is_some() && *state != State::Terminated && *state != State::Stopped
    });
    (!used).then(|| format!("a {kind:?} of {vpc} is on the host; no instance of the VPC runs here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> InstanceId {
        InstanceId::new(number << 40)
    }

    fn expected(state: State) -> Expected {
        let row = (state, Some("h".to_owned()), VpcId::new(1 << 40));
        Expected {
            instances: [(id(1), row)].into(),
            ..Expected::default()
        }
    }

    fn object(kind: ObjectKind, instance: InstanceId, on: bool) -> HostObject {
        HostObject {
            kind,
            instance: Some(instance),
            interface: None,
            vpc: None,
            on,
        }
    }

    fn of_vpc(kind: ObjectKind) -> HostObject {
        HostObject {
            kind,
            instance: None,
            interface: None,
            vpc: Some(VpcId::new(1 << 40)),
            on: false,
        }
    }

    #[test]
    fn agreement_is_silence() {
        let found = [
            object(ObjectKind::Domain, id(1), true),
            object(ObjectKind::Disk, id(1), false),
            of_vpc(ObjectKind::Namespace),
            of_vpc(ObjectKind::Firewall),
            of_vpc(ObjectKind::Dhcp),
        ];
        assert_eq!(
            compare(&expected(State::Running), &found, false).differences,
            [""; 0]
        );
        assert_eq!(
            compare(&expected(State::Terminated), &[], false).differences,
            [""; 0]
        );
    }

    #[test]
    fn each_kind_of_disagreement_is_told() {
        let guest = [object(ObjectKind::Domain, id(1), true)];
        let cases = [
            (State::Running, &[][..], "has no guest"),
            (State::Running, &guest[..], "has no disk"),
            (State::Running, &guest[..], "run without its Firewall"),
            (State::Stopped, &guest[..], "its guest runs"),
            (State::Terminated, &guest[..], "the instance is terminated"),
        ];
        for (state, found, named) in cases {
            let differences = compare(&expected(state), found, false).differences.join("; ");
            assert!(differences.contains(named), "{state:?}: {differences:?}");
        }
        let stranger = compare(&Expected::default(), &guest, false).differences;
        assert!(stranger[0].contains("unknown"), "{stranger:?}");
    }
}

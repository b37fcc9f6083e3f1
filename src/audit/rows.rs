//! The rows that something on a host must correspond to, all of one moment; and their own consistency:
//! counters against what they count.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use cumulet_backend::{
    entity::{
        account, host, host_network, instance, interface, operation, operation_hold, snapshot, volume,
        volume_attachment, volume_modification, vpc,
    },
    store::{
        consistency::Hanging,
        rows,
        snapshots::{self, Needed},
    },
};
use cumulet_domain::{
    ResourceKind,
    id::{InstanceId, NetworkInterfaceId, VolumeId, VpcId},
    instance::State,
    snapshot::SnapshotState,
};
use sea_orm::{ColumnTrait, DatabaseConnection, EntityTrait, QueryFilter, TransactionTrait};

use super::{
    compare::{About, Difference},
    volumes::{self, Volume},
};

/// What is compared of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) state: State,
    pub(super) generation: i64,
    pub(super) host: Option<String>,
    /// Those that its interfaces are in.
    pub(super) vpcs: BTreeSet<VpcId>,
}

/// Which edition of its rows a thing was compared with, and whether something is under way for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    edition: Option<(i64, Option<State>)>,
    pub(super) changing: bool,
}

#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) interfaces: BTreeMap<NetworkInterfaceId, InstanceId>,
    /// The volumes that are files of their own.
    pub(super) volumes: BTreeMap<VolumeId, Volume>,
    /// Instances with an operation under way.
    pub(super) active: BTreeSet<InstanceId>,
    /// Volumes that an operation under way works on, or holds.
    pub(super) held: BTreeSet<VolumeId>,
    /// The generation of each VPC's policy, and the hosts that have still to confirm it.
    pub(super) policies: BTreeMap<VpcId, (i64, BTreeSet<String>)>,
    /// What of the store of snapshots is needed.
    pub(super) snapshots: Needed,
    /// What does not agree in the rows themselves.
    pub(super) leaks: Vec<Difference>,
}

impl Rows {
    /// Reads everything in one transaction: counters and what they count are of one moment.
    pub(super) async fn load(conn: &DatabaseConnection) -> Result<Self> {
        let conn = conn.begin().await?;
        let instances = instance::Entity::find().all(&conn).await?;
        let interfaces = interface::Entity::find().all(&conn).await?;
        let hosts = host::Entity::find().all(&conn).await?;
        let accounts = account::Entity::find().all(&conn).await?;
        let operations = operation::Entity::find()
            .filter(operation::Column::Status.eq("active"))
            .all(&conn)
            .await?;
        let held = operation_hold::Entity::find().all(&conn).await?;
        let (disks, attachments) = (
            rows::all(volume::Entity::find(), &conn).await?,
            rows::all(volume_attachment::Entity::find(), &conn).await?,
        );
        let modifications = rows::all(volume_modification::Entity::find(), &conn).await?;
        let vpcs = vpc::Entity::find().all(&conn).await?;
        let pairs = host_network::Entity::find().all(&conn).await?;
        let hanging = Hanging::load(&conn).await?;
        let needed = snapshots::needed(&conn).await?;
        let taken = rows::all(snapshot::Entity::find(), &conn).await?;
        conn.rollback().await?;
        let mut leaks = claims(&instances, &hosts, |host| hanging.disk_gib(host));
        leaks.extend(usage(&instances, &accounts));
        leaks.extend(holds(&operations, &held));
        leaks.extend(hanging.findings(&instances, &interfaces));
        leaks.extend(idle(&hanging, &operations, &held));
        leaks.extend(untaken(&taken, &held));
        let mut rows = Rows {
            instances: compared(&instances, &interfaces),
            interfaces: interfaces.iter().map(owner).collect(),
            volumes: volumes::volumes(&disks, &attachments, &modifications),
            active: operations.iter().filter_map(at_work_on).collect(),
            held: held.iter().filter_map(volume_held).collect(),
            policies: vpcs.iter().map(|row| policy(row, &pairs)).collect(),
            snapshots: needed,
            leaks: Vec::new(),
        };
        leaks.extend(rows.stuck());
        rows.leaks = leaks.into_iter().map(Difference::of_rows).collect();
        Ok(rows)
    }

    /// Forgets what is on other hosts.
    pub(super) fn keep(&mut self, host: &str) {
        self.instances.retain(|_, row| row.host.as_deref() == Some(host));
        let here = &self.instances;
        self.interfaces.retain(|_, instance| here.contains_key(instance));
        // The images of all of those that are shared are compared, whichever host looks after one.
        self.volumes
            .retain(|_, row| row.shared || row.host.as_deref() == Some(host));
        for (_, waits) in self.policies.values_mut() {
            waits.retain(|name| name == host);
        }
    }

    pub(super) fn state(&self, instance: InstanceId) -> Option<State> {
        self.instances.get(&instance).map(|row| row.state)
    }

    /// The edition of the rows that a difference is about.
    pub(super) fn version(&self, about: About) -> Version {
        match about {
            About::Rows => Version::default(),
            About::Instance(id) => Version {
                edition: self
                    .instances
                    .get(&id)
                    .map(|row| (row.generation, Some(row.state))),
                changing: self.active.contains(&id),
            },
            About::Volume(id) => {
                let volume = self.volumes.get(&id);
                let attached = volume.and_then(|volume| volume.attached);
                Version {
                    edition: volume.map(|volume| (volume.generation, None)),
                    changing: self.held.contains(&id)
                        || attached.is_some_and(|(instance, _)| self.active.contains(&instance)),
                }
            }
            About::Vpc(id) => {
                let policy = self.policies.get(&id);
                Version {
                    edition: policy.map(|(generation, _)| (*generation, None)),
                    changing: policy.is_some_and(|(_, waits)| !waits.is_empty()),
                }
            }
        }
    }

    /// What nothing would ever bring to its end, or give back.
    fn stuck(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, row) in &self.instances {
            let (busy, state) = (self.active.contains(id), row.state.name());
            if row.state.is_transient() && !busy {
                found.push(format!("{id} is {state} and nothing is under way for it"));
            }
            if row.state == State::Terminated && busy {
                found.push(format!("{id} is {state} and something is under way for it"));
            }
        }
        for (id, instance) in &self.interfaces {
            if self
                .state(*instance)
                .is_none_or(|state| state == State::Terminated)
            {
                found.push(format!(
                    "{id} still has the addresses of {instance}, which has ended"
                ));
            }
        }
        found
    }

    /// One instance of one VPC on one host.
    #[cfg(test)]
    pub(super) fn of(id: InstanceId, state: State, generation: i64) -> Self {
        let row = Instance {
            state,
            generation,
            host: Some("h".into()),
            vpcs: [VpcId::new(1 << 40)].into(),
        };
        Rows {
            instances: [(id, row)].into(),
            ..Rows::default()
        }
    }
}

fn compared(rows: &[instance::Model], interfaces: &[interface::Model]) -> BTreeMap<InstanceId, Instance> {
    let mut vpcs: BTreeMap<InstanceId, BTreeSet<VpcId>> = BTreeMap::new();
    for row in interfaces {
        vpcs.entry(row.instance.0).or_default().insert(row.vpc.0);
    }
    let mut compared = |row: &instance::Model| {
        let instance = Instance {
            state: row.state.0,
            generation: row.generation.to_db(),
            host: row.host.clone(),
            vpcs: vpcs.remove(&row.id.0).unwrap_or_default(),
        };
        (row.id.0, instance)
    };
    rows.iter().map(&mut compared).collect()
}

/// The instance that an operation works on, if it works on one.
fn at_work_on(row: &operation::Model) -> Option<InstanceId> {
    let (kind, id) = row.subject();
    (kind == ResourceKind::Instance.resource_type()).then(|| InstanceId::from_db(id))
}

/// The volume that is held, if one is.
fn volume_held(hold: &operation_hold::Model) -> Option<VolumeId> {
    (hold.kind == ResourceKind::Volume.resource_type()).then(|| VolumeId::from_db(hold.resource))
}

fn owner(row: &interface::Model) -> (NetworkInterfaceId, InstanceId) {
    (row.id.0, row.instance.0)
}

fn policy(row: &vpc::Model, pairs: &[host_network::Model]) -> (VpcId, (i64, BTreeSet<String>)) {
    let generation = row.policy_generation;
    let waits = pairs
        .iter()
        .filter(|pair| pair.vpc == row.id && pair.applied_generation < generation);
    let waits = waits.map(|pair| pair.host.clone()).collect();
    (row.id.0, (generation.to_db(), waits))
}

/// Each host's counters against the sum of its instances and volumes: nothing leaks and nothing is oversold.
fn claims(rows: &[instance::Model], hosts: &[host::Model], of_volumes: impl Fn(&str) -> i64) -> Vec<String> {
    let mut differences = Vec::new();
    for host in hosts {
        let on = || {
            rows.iter()
                .filter(|row| row.host.as_deref() == Some(host.id.as_str()))
        };
        let claimed = || on().filter(|row| row.claimed.0);
        let sums = [
            (
                "vCPUs",
                claimed().map(|row| i64::from(row.vcpus.0)).sum::<i64>(),
                host.vcpus_used,
                host.vcpus_max,
            ),
            (
                "MiB of memory",
                claimed().map(|row| row.memory_mib.to_db()).sum(),
                host.memory_mib_used,
                host.memory_mib_max,
            ),
            (
                "GiB of disk",
                on().map(|row| i64::from(row.disk_gib.0)).sum::<i64>() + of_volumes(&host.id),
                host.disk_gib_used,
                host.disk_gib_max,
            ),
        ];
        for (what, sum, used, max) in sums {
            if sum != used {
                differences.push(format!(
                    "host {}: {used} {what} are claimed, its instances and volumes have {sum}",
                    host.id
                ));
            }
            if used > max.to_db() && what != "GiB of disk" {
                differences.push(format!("host {}: {used} {what} are claimed of {max}", host.id));
            }
        }
    }
    differences
}

/// The snapshots that operations take.
fn being_taken(held: &[operation_hold::Model]) -> BTreeSet<i64> {
    let kind = ResourceKind::Snapshot.resource_type();
    let held = held.iter().filter(|hold| hold.kind == kind);
    held.map(|hold| hold.resource).collect()
}

/// Snapshots that are being taken, and that no operation takes; those for copies of volumes, which nobody sees, too.
fn untaken(snapshots: &[snapshot::Model], held: &[operation_hold::Model]) -> Vec<String> {
    let held = being_taken(held);
    let pending = snapshots
        .iter()
        .filter(|row| row.state.0 == SnapshotState::Pending);
    let idle = pending.filter(|row| !held.contains(&row.id.to_db()));
    idle.map(|row| format!("{} is pending, and nobody takes it", row.id.0))
        .collect()
}

/// Volumes that nothing would ever bring to their end: on their way, and nobody is at work on them, nor on the snapshots
/// that they wait for.
fn idle(hanging: &Hanging, open: &[operation::Model], held: &[operation_hold::Model]) -> Vec<String> {
    let kind = ResourceKind::Volume.resource_type();
    let volumes = open
        .iter()
        .map(operation::Model::subject)
        .filter(|(of, _)| *of == kind);
    let busy: BTreeSet<VolumeId> = volumes.map(|(_, id)| VolumeId::from_db(id)).collect();
    let taken = being_taken(held);
    let waits = |id| hanging.made_of(id).is_some_and(|of| taken.contains(&of.to_db()));
    let moving = hanging
        .unsettled()
        .into_iter()
        .filter(|(id, _)| !busy.contains(id) && !waits(*id));
    moving
        .map(|(id, words)| format!("{id} {words}, and nothing is under way for it"))
        .collect()
}

/// Each account's counters, which its quotas are held against, against its instances that have not ended.
fn usage(rows: &[instance::Model], accounts: &[account::Model]) -> Vec<String> {
    let mut differences = Vec::new();
    for account in accounts {
        let living = || {
            rows.iter()
                .filter(|row| row.account == account.id && row.state.0 != State::Terminated)
        };
        let count = i64::try_from(living().count()).unwrap_or(i64::MAX);
        let vcpus: i64 = living().map(|row| i64::from(row.vcpus.0)).sum();
        for (what, used, sum) in [
            ("instances", account.instances_used, count),
            ("vCPUs", account.vcpus_used, vcpus),
        ] {
            if used != sum {
                differences.push(format!(
                    "account {}: {used} {what} are counted, it has {sum}",
                    account.id
                ));
            }
        }
    }
    differences
}

/// What open operations hold, against what is held: one that has ended holds nothing, one that is under way holds
/// its subject and all that it says. (What a program of before has begun holds nothing until the next start.)
fn holds(open: &[operation::Model], held: &[operation_hold::Model]) -> Vec<String> {
    let known: BTreeSet<i64> = open.iter().map(|row| row.id.to_db()).collect();
    let left = held
        .iter()
        .filter(|hold| !known.contains(&hold.operation.to_db()));
    let mut differences: Vec<String> = left
        .map(|hold| {
            format!(
                "{} is held by an operation that is not under way",
                named(&hold.kind, hold.resource)
            )
        })
        .collect();
    let mut theirs: BTreeMap<i64, Vec<(&str, i64)>> = BTreeMap::new();
    for hold in held {
        theirs
            .entry(hold.operation.to_db())
            .or_default()
            .push((&hold.kind, hold.resource));
    }
    for row in open {
        let Some(wanted) = row.held else { continue };
        let (kind, id) = row.subject();
        let has = theirs.get(&row.id.to_db()).map(Vec::as_slice).unwrap_or_default();
        if !has.contains(&(kind, id)) {
            differences.push(format!(
                "a {} does not hold {}, which it works on",
                row.kind,
                named(kind, id)
            ));
        } else if i64::try_from(has.len()) != Ok(wanted) {
            let has = has.len();
            differences.push(format!(
                "the {} of {} holds {has} resources and says {wanted}",
                row.kind,
                named(kind, id)
            ));
        }
    }
    differences
}

/// A resource as it is printed.
fn named(kind: &str, id: i64) -> String {
    let known = ResourceKind::ALL
        .into_iter()
        .find(|known| known.resource_type() == kind);
    match known {
        Some(known) => format!("{}-{:017x}", known.prefix(), id.cast_unsigned()),
        None => format!("{kind} {id}"),
    }
}

#[cfg(test)]
mod tests {
    use cumulet_backend::entity::{
        columns::{Amount, Count, Key, Named, Owner},
        operation::OperationStatus,
    };
    use cumulet_domain::account::AccountId;

    use super::*;

    fn id(number: u64) -> InstanceId {
        InstanceId::new(number << 40)
    }

    #[test]
    fn what_is_stuck_and_what_is_kept_of_the_ended_is_told() {
        let told = |state, busy, interface| {
            let mut rows = Rows::of(id(1), state, 1);
            if busy {
                rows.active.insert(id(1));
            }
            if interface {
                rows.interfaces.insert(NetworkInterfaceId::new(1 << 40), id(1));
            }
            rows.stuck().join("; ")
        };
        for (state, busy, interface, named) in [
            (State::Pending, true, true, ""),
            (State::Pending, false, true, "nothing is under way"),
            (State::Running, true, true, ""),
            (State::Terminated, false, false, ""),
            (State::Terminated, true, false, "something is under way"),
            (State::Terminated, false, true, "still has the addresses"),
        ] {
            let found = told(state, busy, interface);
            assert!(
                found.contains(named) && found.is_empty() == named.is_empty(),
                "{state:?}: {found}"
            );
        }
    }

    #[test]
    fn a_host_answers_for_its_own_rows() {
        let mut rows = Rows::of(id(1), State::Running, 1);
        let mut other = rows.instances[&id(1)].clone();
        other.host = Some("other".into());
        rows.instances.insert(id(2), other);
        for number in [1, 2] {
            rows.interfaces
                .insert(NetworkInterfaceId::new(number << 40), id(number));
        }
        let vpc = VpcId::new(1 << 40);
        rows.policies
            .insert(vpc, (1, ["h".into(), "other".into()].into()));
        rows.keep("other");
        assert_eq!(rows.instances.keys().collect::<Vec<_>>(), [&id(2)]);
        assert_eq!(rows.interfaces.values().collect::<Vec<_>>(), [&id(2)]);
        assert_eq!(rows.policies[&vpc].1, ["other".to_owned()].into());
    }

    #[test]
    fn what_is_held_is_held_against_what_is_under_way() {
        let operation = |held| operation::Model {
            id: Key::from_db(7),
            kind: "stop".into(),
            account: Owner(AccountId(1)),
            instance: 5,
            active_instance: Some(5),
            generation: Amount(1),
            status: Named(OperationStatus::Active),
            step: "command".into(),
            state: "{}".into(),
            attempts: Count(0),
            next_at: 0,
            deadline: 0,
            lease_owner: None,
            lease_until: 0,
            error: None,
            created_at: 0,
            finished_at: None,
            subject_kind: Some("instance".into()),
            subject: Some(5),
            held,
        };
        let hold = |kind: &str, resource, operation: i64| operation_hold::Model {
            kind: kind.into(),
            resource,
            operation: Key::from_db(operation),
        };
        let (subject, other) = (hold("instance", 5, 7), hold("volume", 6, 7));
        for (open, held, named) in [
            (vec![], vec![], ""),
            (vec![operation(Some(1))], vec![subject.clone()], ""),
            (vec![operation(Some(2))], vec![subject.clone(), other.clone()], ""),
            (vec![operation(None)], vec![], ""),
            (vec![], vec![subject.clone()], "i-00000000000000005 is held by"),
            (
                vec![operation(Some(1))],
                vec![],
                "a stop does not hold i-00000000000000005",
            ),
            (
                vec![operation(Some(1))],
                vec![other.clone()],
                "a stop does not hold",
            ),
            (
                vec![operation(Some(1))],
                vec![subject, other],
                "holds 2 resources and says 1",
            ),
        ] {
            let found = holds(&open, &held).join("; ");
            assert!(
                found.contains(named) && found.is_empty() == named.is_empty(),
                "{found}"
            );
        }
    }

    #[test]
    fn counters_are_held_against_what_they_count() {
        let account = |instances_used, vcpus_used| account::Model {
            id: Owner(AccountId(7)),
            name: "a".into(),
            instances_used,
            instances_max: Amount(9),
            vcpus_used,
            vcpus_max: Amount(9),
            created_at: 0,
            encrypts: None,
        };
        assert_eq!(usage(&[], &[account(0, 0)]), [""; 0]);
        let found = usage(&[], &[account(1, 2)]).join("; ");
        assert!(
            found.contains("1 instances are counted") && found.contains("2 vCPUs"),
            "{found}"
        );
    }
}

//! The comparison of rows with things on a host. Pure.

use std::collections::BTreeSet;

use cumulet_domain::{
    id::{InstanceId, VolumeId, VpcId},
    instance::State,
};
use cumulet_worker::{HostObject, ObjectKind};

use super::{rows::Rows, volumes};

/// Whose rows a difference is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum About {
    /// An instance, or what belongs to it.
    Instance(InstanceId),
    /// A VPC's part of the host.
    Vpc(VpcId),
    /// A volume, and what it is attached to.
    Volume(VolumeId),
    /// Rows alone.
    Rows,
}

/// What does not agree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Difference {
    pub(super) about: About,
    pub(super) words: String,
}

impl Difference {
    pub(super) fn of(instance: InstanceId, words: String) -> Self {
        let about = About::Instance(instance);
        Difference { about, words }
    }

    pub(super) fn of_rows(words: String) -> Self {
        let about = About::Rows;
        Difference { about, words }
    }

    /// Rows of one moment that contradict each other: no change on its way explains that.
    pub(super) fn is_of_rows(&self) -> bool {
        self.about == About::Rows
    }
}

/// Everything that does not agree. A simulated host has no disk and no network worth comparing.
pub(super) fn compare(rows: &Rows, found: &[HostObject], simulated: bool) -> Vec<Difference> {
    let mut differences = rows.leaks.clone();
    differences.extend(found.iter().filter_map(|object| unexpected(rows, object)));
    differences.extend(volumes::compare(rows, found, simulated));
    let have = |kind: ObjectKind| -> BTreeSet<InstanceId> {
        found
            .iter()
            .filter(|object| object.kind == kind)
            .filter_map(|object| object.instance)
            .collect()
    };
    let (domains, disks) = (have(ObjectKind::Domain), have(ObjectKind::Disk));
    for (id, row) in &rows.instances {
        if row.host.is_none() || row.state.is_transient() || row.state == State::Terminated {
            continue;
        }
        let mut missing = |what: &str| {
            let words = format!("{id} is {} in the database and has no {what}", row.state.name());
            differences.push(Difference::of(*id, words));
        };
        if row.state == State::Running && !domains.contains(id) {
            missing("guest");
        }
        if !simulated && !disks.contains(id) {
            missing("disk");
        }
    }
    if !simulated {
        differences.extend(unguarded(rows, found));
        differences.extend(unconnected(rows, found));
    }
    differences
}

/// Interfaces of running instances that are not there.
fn unconnected(rows: &Rows, found: &[HostObject]) -> Vec<Difference> {
    let there: BTreeSet<_> = found.iter().filter_map(|object| object.interface).collect();
    let missing = rows.interfaces.iter().filter(|(interface, instance)| {
        rows.state(**instance) == Some(State::Running) && !there.contains(interface)
    });
    missing
        .map(|(interface, instance)| {
            Difference::of(*instance, format!("{interface} of {instance} is not on the host"))
        })
        .collect()
}

/// VPCs whose instances run without something that guards or serves them.
fn unguarded(rows: &Rows, found: &[HostObject]) -> Vec<Difference> {
    let running = rows.instances.values().filter(|row| row.state == State::Running);
    let vpcs: BTreeSet<VpcId> = running.flat_map(|row| row.vpcs.iter().copied()).collect();
    let has = |vpc, kind| {
        found
            .iter()
            .any(|object| object.vpc == Some(vpc) && object.kind == kind)
    };
    let needed = [ObjectKind::Namespace, ObjectKind::Firewall, ObjectKind::Dhcp];
    let pairs = vpcs.iter().flat_map(|vpc| needed.map(|kind| (*vpc, kind)));
    let missing = pairs.filter(|(vpc, kind)| !has(*vpc, *kind));
    missing
        .map(|(vpc, kind)| Difference {
            about: About::Vpc(vpc),
            words: format!("instances of {vpc} run without its {kind:?}"),
        })
        .collect()
}

/// Why a thing on the host should not be there, if it should not.
fn unexpected(rows: &Rows, object: &HostObject) -> Option<Difference> {
    let kind = object.kind;
    if object.volume.is_some() {
        return None; // looked at with its row
    }
    let ended = |state: Option<State>| state.is_none_or(|state| state == State::Terminated);
    if let Some(id) = object.instance {
        let state = rows.state(id);
        let words = if ended(state) {
            let state = state.map_or("unknown", State::name);
            format!("a {kind:?} of {id} is on the host; the instance is {state}")
        } else if kind == ObjectKind::Domain && object.on && state == Some(State::Stopped) {
            format!("{id} is stopped in the database and its guest runs")
        } else {
            return None;
        };
        return Some(Difference::of(id, words));
    }
    if let Some(id) = object.interface {
        let owner = rows.interfaces.get(&id).copied();
        let about = match (owner, object.vpc) {
            (Some(instance), _) => About::Instance(instance),
            (None, Some(vpc)) => About::Vpc(vpc),
            // A tap whose row is gone: nothing tells whose it was.
            (None, None) => About::Instance(InstanceId::new(0)),
        };
        let words = format!("a {kind:?} {id} is on the host and belongs to no living instance");
        return ended(owner.and_then(|instance| rows.state(instance))).then_some(Difference { about, words });
    }
    let vpc = object.vpc?;
    let used = rows.instances.values().any(|row| {
        let here = row.host.is_some() && row.vpcs.contains(&vpc);
        here && row.state != State::Terminated && row.state != State::Stopped
    });
    (!used).then(|| Difference {
        about: About::Vpc(vpc),
        words: format!("a {kind:?} of {vpc} is on the host; no instance of the VPC runs here"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> InstanceId {
        InstanceId::new(number << 40)
    }

    fn rows(state: State) -> Rows {
        Rows::of(id(1), state, 1)
    }

    fn words(rows: &Rows, found: &[HostObject]) -> Vec<String> {
        let found = compare(rows, found, false).into_iter();
        found.map(|difference| difference.words).collect()
    }

    fn object(kind: ObjectKind, instance: InstanceId, on: bool) -> HostObject {
        HostObject {
            kind,
            instance: Some(instance),
            interface: None,
            vpc: None,
            volume: None,
            on,
            bytes: None,
        }
    }

    fn of_vpc(kind: ObjectKind) -> HostObject {
        HostObject {
            kind,
            instance: None,
            interface: None,
            vpc: Some(VpcId::new(1 << 40)),
            volume: None,
            on: false,
            bytes: None,
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
        assert_eq!(words(&rows(State::Running), &found), [""; 0]);
        assert_eq!(words(&rows(State::Terminated), &[]), [""; 0]);
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
            let differences = words(&rows(state), found).join("; ");
            assert!(differences.contains(named), "{state:?}: {differences:?}");
        }
        let stranger = words(&Rows::default(), &guest);
        assert!(stranger[0].contains("unknown"), "{stranger:?}");
    }
}

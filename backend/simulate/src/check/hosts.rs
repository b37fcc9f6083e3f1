//! Invariants I1 and I11: what hosts have against what rows say.

use std::{collections::BTreeSet, sync::Arc};

use cumulet_domain::{
    id::{HostId, InstanceId},
    instance::State,
    message::Power,
    spec::DiskSource,
};

use super::{Findings, Rows};
use crate::{
    host::{Host, Machine},
    outcome::Invariant,
};

/// Everything that does not agree.
pub(super) fn findings(rows: &Rows, hosts: &[Arc<Host>]) -> Findings {
    let mut findings = Findings::new();
    for host in hosts {
        let Some(machine) = host.machine() else {
            findings.push((Invariant::I1, format!("{}: no worker is there", host.id)));
            continue;
        };
        let there = There {
            rows,
            id: &host.id,
            machine,
        };
        let mut told = Vec::new();
        there.instances(&mut told);
        there.networks(&mut told);
        let words = told.into_iter().map(|words| format!("{}: {words}", host.id));
        findings.extend(words.map(|words| (Invariant::I1, words)));
        let words = there.volumes().into_iter();
        let words = words.map(|words| format!("{}: {words}", host.id));
        findings.extend(words.map(|words| (Invariant::I11, words)));
    }
    let words = pooled(rows, hosts).into_iter();
    findings.extend(words.map(|words| (Invariant::I11, words)));
    findings
}

/// Invariant I11 of the pool: each volume that is there is a row's, and each that was made is there. (One that is half made
/// has its host's name, and goes when that makes it again.)
fn pooled(rows: &Rows, hosts: &[Arc<Host>]) -> Vec<String> {
    let Some(pool) = hosts.iter().find_map(|host| host.pool()) else {
        return Vec::new();
    };
    let (there, known) = (pool.volumes(), rows.hanging().volumes_shared());
    let lost = known.iter().filter(|(id, made)| **made && !there.contains(id));
    let mut told: Vec<String> = lost.map(|(id, _)| format!("the image of {id} is lost")).collect();
    let left = there.iter().filter(|id| !known.contains_key(id));
    told.extend(left.map(|id| format!("the image of {id} is left")));
    told
}

/// A host, and what rows say.
struct There<'a> {
    rows: &'a Rows,
    id: &'a HostId,
    machine: Machine,
}

impl There<'_> {
    fn state(&self, id: InstanceId) -> Option<State> {
        let row = self.rows.instances.get(&id);
        row.map(|row| row.state.0)
    }

    /// The instances whose rows name the host.
    fn placed(&self) -> impl Iterator<Item = InstanceId> {
        self.rows.placed.get(self.id).into_iter().flatten().copied()
    }

    fn instances(&self, told: &mut Vec<String>) {
        for id in self.placed() {
            let power = self.machine.power(id);
            match self.state(id) {
                Some(State::Running) if power != Power::On => {
                    told.push(format!("{id} is running and is {power:?}"));
                }
                Some(State::Stopped) if power == Power::On => told.push(format!("{id} is stopped and runs")),
                Some(State::Running) => self.running(id, told),
                _ => {}
            }
        }
        let Machine {
            guests, kept, served, ..
        } = &self.machine;
        let placed: BTreeSet<_> = self.placed().collect();
        let there = guests.keys().chain(kept.instances.keys()).chain(served.keys());
        let there: BTreeSet<_> = there.copied().collect();
        for id in there.difference(&placed) {
            let state = self.state(*id).map(State::name);
            told.push(format!(
                "something of {id}, which is {state:?}, is here: {}",
                self.parts(*id)
            ));
        }
        for id in served.keys() {
            if self.state(*id) == Some(State::Stopped) {
                told.push(format!("{id} is stopped and its metadata are served"));
            }
        }
    }

    /// A guest that runs has what its host was told last that it is to have, and reads what its row says.
    fn running(&self, id: InstanceId, told: &mut Vec<String>) {
        let spec = self.machine.kept.instances.get(&id);
        if spec.is_none_or(|kept| kept.spec.is_none()) {
            told.push(format!("{id} runs, and nothing says what it has"));
        }
        if let Some(differ) = self.machine.differ.get(&id) {
            told.push(format!("{id} has not what it is to have: {differ:?}"));
        }
        let Some(row) = self.rows.instances.get(&id) else {
            return;
        };
        let served = self.machine.served.get(&id).copied();
        if served != Some(row.metadata_revision.0) {
            told.push(format!(
                "{id} reads revision {served:?} of {}",
                row.metadata_revision
            ));
        }
    }

    /// What there is of an instance.
    fn parts(&self, id: InstanceId) -> String {
        let Machine { kept, served, .. } = &self.machine;
        format!(
            "guest {:?}, record at {:?}, served {}",
            self.machine.power(id),
            kept.instances.get(&id).map(|kept| kept.generations),
            served.contains_key(&id)
        )
    }

    /// Invariant I11: each volume's data is where its row says and nowhere else, and the guests that run have those
    /// that are attached to them.
    fn volumes(&self) -> Vec<String> {
        let kept = &self.machine.kept;
        let known = self.rows.hanging().volumes_on(&self.id.0);
        let lost = known
            .iter()
            .filter(|(id, made)| **made && !kept.volumes.contains(*id));
        let mut told: Vec<String> = lost.map(|(id, _)| format!("{id} is lost")).collect();
        let left = kept.volumes.iter().filter(|id| !known.contains_key(*id));
        told.extend(left.map(|id| format!("the file of {id} is left")));
        told.extend(kept.partial.iter().map(|id| format!("half of {id} is left")));
        for id in self.placed() {
            if self.state(id) != Some(State::Running) {
                continue;
            }
            let spec = kept.instances.get(&id).and_then(|kept| kept.spec.as_ref());
            let disks = spec.iter().flat_map(|spec| &spec.disks);
            for disk in disks.clone() {
                let shape = self.rows.hanging().shape(disk.volume);
                if shape.is_some_and(|shape| u64::from(shape.size_gib) != disk.size_gib) {
                    let (gib, volume) = (disk.size_gib, disk.volume);
                    told.push(format!(
                        "{id} has {volume} of {gib} GiB, and its row has {shape:?}"
                    ));
                }
            }
            let own = disks.filter(|disk| matches!(disk.source, DiskSource::Volume { .. }));
            let has: BTreeSet<_> = own.map(|disk| disk.volume).collect();
            let wanted = self.rows.hanging().data_of(id);
            if has != wanted {
                told.push(format!("{id} has {has:?} and {wanted:?} are attached to it"));
            }
        }
        told
    }

    fn networks(&self, told: &mut Vec<String>) {
        let mut wanted: BTreeSet<_> = BTreeSet::new();
        for id in self.placed() {
            if self.state(id) == Some(State::Running) {
                wanted.extend(self.rows.interfaces_of.get(&id).into_iter().flatten().copied());
            }
        }
        let Machine {
            nets, loose, kept, ..
        } = &self.machine;
        let attached: BTreeSet<_> = nets
            .values()
            .flat_map(|(_, attached)| attached.iter().copied())
            .collect();
        if attached != wanted {
            let more: Vec<_> = attached.difference(&wanted).collect();
            let less: Vec<_> = wanted.difference(&attached).collect();
            told.push(format!(
                "interfaces that are too many: {more:?}, and missing: {less:?}"
            ));
        }
        if !loose.is_empty() {
            told.push(format!("interfaces that are in no VPC: {loose:?}"));
        }
        if self.machine.failing > 0 {
            told.push(format!("{} policies could not be enforced", self.machine.failing));
        }
        let known = self.rows.networks.get(self.id);
        for vpc in nets.keys().chain(&kept.vpcs).collect::<BTreeSet<_>>() {
            let current = self.rows.policies.get(vpc).map_or(0, |generation| generation.0);
            let is_known = known.is_some_and(|known| known.contains_key(vpc));
            let enforced = nets.get(vpc).map(|(generation, _)| *generation);
            if !is_known {
                told.push(format!("{vpc} is here at {enforced:?}, and no row says so"));
            } else if enforced != Some(current) {
                told.push(format!("{vpc} is enforced at {enforced:?} of {current}"));
            }
        }
    }
}

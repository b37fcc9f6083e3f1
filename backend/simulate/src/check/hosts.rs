//! Invariants I1 and I11: what hosts have against what rows say.

use std::{collections::BTreeSet, sync::Arc};

use cumulet_domain::{id::InstanceId, instance::State, message::Power};
use cumulet_worker::decisions::{Changes, changes};

use super::{Findings, Rows};
use crate::{
    host::{Host, Machine},
    outcome::Invariant,
};

/// Everything that does not agree.
pub(super) fn findings(rows: &Rows, hosts: &[Arc<Host>]) -> Findings {
    let mut findings = Findings::new();
    for host in hosts {
        let mut told = Vec::new();
        instances(rows, host, &mut told);
        networks(rows, host, &mut told);
        let words = told.into_iter().map(|words| format!("{}: {words}", host.id));
        findings.extend(words.map(|words| (Invariant::I1, words)));
        let words = volumes(rows, host)
            .into_iter()
            .map(|words| format!("{}: {words}", host.id));
        findings.extend(words.map(|words| (Invariant::I11, words)));
    }
    findings
}

fn state(rows: &Rows, id: InstanceId) -> Option<State> {
    rows.instances
        .get(&id)
        .and_then(|row| State::from_name(&row.state))
}

fn instances(rows: &Rows, host: &Host, told: &mut Vec<String>) {
    let machine = host.machine();
    let none = Vec::new();
    let placed = rows.placed.get(&host.id).unwrap_or(&none);
    for id in placed {
        let Some(row) = rows.instances.get(id) else {
            continue;
        };
        let power = machine.power(*id);
        match state(rows, *id) {
            Some(State::Running) if power != Power::On => {
                told.push(format!("{id} is running and is {power:?}"))
            }
            Some(State::Stopped) if power == Power::On => told.push(format!("{id} is stopped and runs")),
            Some(State::Running) => {
                devices(&machine, *id, told);
                let served = machine.served.get(id).copied();
                if served.map(i64::try_from) != Some(Ok(row.metadata_revision)) {
                    told.push(format!(
                        "{id} reads revision {served:?} of {}",
                        row.metadata_revision
                    ));
                }
            }
            _ => {}
        }
    }
    let placed: BTreeSet<_> = placed.iter().copied().collect();
    let there = machine
        .guests
        .keys()
        .chain(machine.kept.keys())
        .chain(machine.served.keys());
    let there: BTreeSet<_> = there.copied().collect();
    for id in there.difference(&placed) {
        let state = state(rows, *id).map(State::name);
        told.push(format!(
            "something of {id}, which is {state:?}, is here: {}",
            parts(&machine, *id)
        ));
    }
    for id in machine.served.keys() {
        if state(rows, *id) == Some(State::Stopped) {
            told.push(format!("{id} is stopped and its metadata are served"));
        }
    }
}

/// Invariant I11: each volume's data is where its row says and nowhere else, and the guests that run have those
/// that are attached to them.
fn volumes(rows: &Rows, host: &Host) -> Vec<String> {
    let machine = host.machine();
    let known = rows.hanging().volumes_on(&host.id.0);
    let lost = known
        .iter()
        .filter(|(id, made)| **made && !machine.volumes.contains(*id));
    let mut told: Vec<String> = lost.map(|(id, _)| format!("{id} is lost")).collect();
    let left = machine.volumes.iter().filter(|id| !known.contains_key(*id));
    told.extend(left.map(|id| format!("the file of {id} is left")));
    for id in rows.placed.get(&host.id).into_iter().flatten() {
        if state(rows, *id) != Some(State::Running) {
            continue;
        }
        let has = machine
            .kept
            .get(id)
            .map(|kept| kept.volumes.iter().map(|(volume, _)| *volume));
        let has: BTreeSet<_> = has.into_iter().flatten().collect();
        let wanted = rows.hanging().data_of(*id);
        if has != wanted {
            told.push(format!("{id} has {has:?} and {wanted:?} are attached to it"));
        }
    }
    told
}

/// A guest that runs has what its host was told last that it is to have.
fn devices(machine: &Machine, id: InstanceId, told: &mut Vec<String>) {
    let (Some(kept), Some(has)) = (machine.kept.get(&id), machine.devices.get(&id)) else {
        return told.push(format!("{id} runs, and nothing says what it has"));
    };
    let differ = changes(has, &kept.domain);
    if differ != Changes::default() {
        told.push(format!("{id} has not what it is to have: {differ:?}"));
    }
}

/// What there is of an instance.
fn parts(machine: &Machine, id: InstanceId) -> String {
    let record = machine.record(id);
    format!(
        "guest {:?}, record at {:?}, served {}",
        machine.power(id),
        record.map(|record| (record.generation, record.applied)),
        machine.served.contains_key(&id)
    )
}

fn networks(rows: &Rows, host: &Host, told: &mut Vec<String>) {
    let machine = host.machine();
    let none = Vec::new();
    let placed = rows.placed.get(&host.id).unwrap_or(&none);
    let mut wanted: BTreeSet<_> = BTreeSet::new();
    for id in placed {
        if state(rows, *id) == Some(State::Running) {
            wanted.extend(rows.interfaces_of.get(id).into_iter().flatten());
        }
    }
    let attached: BTreeSet<_> = machine
        .nets
        .values()
        .flat_map(|net| net.attached.iter().copied())
        .collect();
    if attached != wanted {
        let more: Vec<_> = attached.difference(&wanted).collect();
        let less: Vec<_> = wanted.difference(&attached).collect();
        told.push(format!(
            "interfaces that are too many: {more:?}, and missing: {less:?}"
        ));
    }
    let known = rows.networks.get(&host.id);
    for (vpc, net) in &machine.nets {
        let current = rows.policies.get(vpc).copied().unwrap_or(0);
        let is_known = known.is_some_and(|known| known.contains_key(vpc));
        if !is_known {
            told.push(format!("{vpc} is here with {:?}, and no row says so", net.ids));
        } else if i64::try_from(net.generation) != Ok(current) {
            told.push(format!("{vpc} is enforced at {} of {current}", net.generation));
        }
    }
}

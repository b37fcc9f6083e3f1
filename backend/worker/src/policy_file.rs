//! The policy file of a VPC: the policy as it was once, and a line for each change since. A policy grows with
//! the instances of its VPC and changes with each of them; written whole each time, most of what a busy host
//! writes would be what has not changed.

use std::{collections::HashSet, hash::Hash, io, net::Ipv4Addr, path::Path, sync::Arc};

use cumulet_domain::network::{GroupPolicy, InterfacePolicy, Rule, SubnetPolicy, TunnelPolicy, VpcPolicy};
use serde::{Deserialize, Serialize};

use crate::files::HostFiles;

/// Changes may be so much longer than the policy that they begin with before it is written anew.
const ROOM: u64 = 64 * 1024;

/// What is in the file.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) policy: Arc<VpcPolicy>,
    whole: u64,
    changes: u64,
}

/// In place of `gone` elements from `at` on (as the list was before) there are those of `put`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Splice<T> {
    at: usize,
    gone: usize,
    put: Vec<T>,
}

/// What makes one policy of another of the same VPC with the same groups.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    generation: u64,
    subnets: Vec<Splice<SubnetPolicy>>,
    interfaces: Vec<Splice<InterfacePolicy>>,
    groups: Vec<GroupChange>,
    #[serde(default)]
    tunnel: TunnelChange,
}

/// What becomes of the VPC's part on other hosts.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum TunnelChange {
    #[default]
    Same,
    Whole(Option<TunnelPolicy>),
    /// By the number of the host.
    Peers(Vec<(usize, Vec<Splice<Ipv4Addr>>)>),
}

#[derive(Debug, Serialize, Deserialize)]
struct GroupChange {
    number: usize,
    rules: Option<Vec<Rule>>,
    members: Vec<Splice<Ipv4Addr>>,
}

/// Keeps a policy in the file, given what is in it; `None` if that is not known. After an error it is not
/// known any more.
pub(crate) fn write(
    files: &dyn HostFiles,
    path: &Path,
    before: Option<Kept>,
    policy: Arc<VpcPolicy>,
) -> io::Result<Kept> {
    if let Some(before) = before
        && before.changes <= before.whole + ROOM
        && let Some(change) = change(&before.policy, &policy)
    {
        let mut line = serde_json::to_vec(&change)?;
        line.push(b'\n');
        if files.append(path, &line).is_ok() {
            return Ok(Kept {
                policy,
                whole: before.whole,
                changes: before.changes + line.len() as u64,
            });
        }
        // The file is gone, or half of the line is in it: another one takes its place.
    }
    let mut text = serde_json::to_vec(&*policy)?;
    text.push(b'\n');
    files.write_large(path, &text)?;
    Ok(Kept {
        policy,
        whole: text.len() as u64,
        changes: 0,
    })
}

/// Reads what [`write`] wrote. A last line that was cut off was never acted on.
pub(crate) fn read(files: &dyn HostFiles, path: &Path) -> io::Result<VpcPolicy> {
    let text = files.read(path)?;
    let mut lines = text.split_inclusive(|b| *b == b'\n');
    let mut policy: VpcPolicy = serde_json::from_slice(lines.next().unwrap_or_default())?;
    for line in lines.filter(|line| line.ends_with(b"\n")) {
        apply(&mut policy, serde_json::from_slice(line)?)?;
    }
    Ok(policy)
}

/// `None` where the policy has to be written as a whole.
fn change(old: &VpcPolicy, new: &VpcPolicy) -> Option<Change> {
    let same = |one: &GroupPolicy, other: &GroupPolicy| one.id == other.id;
    let mut pairs = old.groups.iter().zip(&new.groups);
    if old.vpc != new.vpc
        || old.cidr != new.cidr
        || old.groups.len() != new.groups.len()
        || !pairs.all(|(o, n)| same(o, n))
    {
        return None;
    }
    let mut groups = Vec::new();
    for (number, (old, new)) in old.groups.iter().zip(&new.groups).enumerate() {
        let rules = (old.rules != new.rules).then(|| new.rules.clone());
        let members = splices(&old.members, &new.members, |address| *address);
        if rules.is_some() || !members.is_empty() {
            groups.push(GroupChange {
                number,
                rules,
                members,
            });
        }
    }
    Some(Change {
        generation: new.generation,
        subnets: splices(&old.subnets, &new.subnets, |subnet| subnet.id),
        interfaces: splices(&old.interfaces, &new.interfaces, |interface| interface.id),
        groups,
        tunnel: tunnel_change(old.tunnel.as_ref(), new.tunnel.as_ref()),
    })
}

fn tunnel_change(old: Option<&TunnelPolicy>, new: Option<&TunnelPolicy>) -> TunnelChange {
    if old == new {
        return TunnelChange::Same;
    }
    let hosts = |tunnel: &TunnelPolicy| tunnel.peers.iter().map(|peer| peer.host).collect::<Vec<_>>();
    match (old, new) {
        (Some(old), Some(new)) if old.vni == new.vni && hosts(old) == hosts(new) => {
            let peers = old.peers.iter().zip(&new.peers).enumerate();
            let changes =
                peers.map(|(n, (old, new))| (n, splices(&old.addresses, &new.addresses, |address| *address)));
            TunnelChange::Peers(changes.filter(|(_, splices)| !splices.is_empty()).collect())
        }
        (_, new) => TunnelChange::Whole(new.cloned()),
    }
}

/// The splices that make `new` of `old`: few where elements, known by their keys, came and went.
fn splices<T: Clone + PartialEq, K: Eq + Hash>(
    old: &[T],
    new: &[T],
    key: impl Fn(&T) -> K,
) -> Vec<Splice<T>> {
    let start = old.iter().zip(new).take_while(|(o, n)| o == n).count();
    let (old, new) = (&old[start..], &new[start..]);
    let end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(o, n)| o == n)
        .count();
    let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
    let (had, has): (HashSet<K>, HashSet<K>) =
        (old.iter().map(&key).collect(), new.iter().map(&key).collect());
    let mut found: Vec<Splice<T>> = Vec::new();
    let (mut o, mut n) = (0, 0);
    let mut open = false;
    while o < old.len() || n < new.len() {
        let (was, is) = (old.get(o), new.get(n));
        if was.is_some() && was == is {
            (o, n, open) = (o + 1, n + 1, false);
            continue;
        }
        if !open {
            let at = start + o;
            found.push(Splice {
                at,
                gone: 0,
                put: Vec::new(),
            });
            open = true;
        }
        let Some(splice) = found.last_mut() else { break };
        // What only came is put, what only went is taken away; of what changed or moved, both.
        let came = is.filter(|is| was.is_none() || !had.contains(&key(is)));
        let went = was.filter(|was| is.is_none() || !has.contains(&key(was)));
        if let (Some(is), true) = (is, came.is_some() || went.is_none()) {
            splice.put.push(is.clone());
            n += 1;
        }
        if was.is_some() && (went.is_some() || came.is_none()) {
            splice.gone += 1;
            o += 1;
        }
    }
    found
}

fn apply(policy: &mut VpcPolicy, change: Change) -> io::Result<()> {
    policy.generation = change.generation;
    splice(&mut policy.subnets, change.subnets)?;
    splice(&mut policy.interfaces, change.interfaces)?;
    for group in change.groups {
        let found = policy.groups.get_mut(group.number).ok_or_else(unreadable)?;
        if let Some(rules) = group.rules {
            found.rules = rules;
        }
        splice(&mut found.members, group.members)?;
    }
    match (change.tunnel, &mut policy.tunnel) {
        (TunnelChange::Same, _) => {}
        (TunnelChange::Whole(tunnel), found) => *found = tunnel,
        (TunnelChange::Peers(_), None) => return Err(unreadable()),
        (TunnelChange::Peers(peers), Some(found)) => {
            for (number, splices) in peers {
                let peer = found.peers.get_mut(number).ok_or_else(unreadable)?;
                splice(&mut peer.addresses, splices)?;
            }
        }
    }
    Ok(())
}

fn splice<T>(list: &mut Vec<T>, splices: Vec<Splice<T>>) -> io::Result<()> {
    let mut old = std::mem::take(list).into_iter();
    let mut position = 0_usize;
    for Splice { at, gone, put } in splices {
        let kept = at.checked_sub(position).ok_or_else(unreadable)?;
        if kept.checked_add(gone).is_none_or(|n| n > old.len()) {
            return Err(unreadable());
        }
        list.extend(old.by_ref().take(kept));
        old.by_ref().take(gone).for_each(drop);
        list.extend(put);
        position = at + gone;
    }
    list.extend(old);
    Ok(())
}

fn unreadable() -> io::Error {
    io::Error::other("a change does not fit what it changes")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cumulet_domain::network::TunnelPeer;
    use proptest::prelude::*;

    use super::{read as read_from, write as write_to, *};
    use crate::{files::DiskFiles, testing::policy};

    fn write(path: &Path, before: Option<Kept>, policy: Arc<VpcPolicy>) -> io::Result<Kept> {
        write_to(&DiskFiles, path, before, policy)
    }

    fn read(path: &Path) -> io::Result<VpcPolicy> {
        read_from(&DiskFiles, path)
    }

    /// A policy of these interfaces, of which some have changed, with groups that know each other.
    fn made(generation: u64, interfaces: &[u8], changed: u8, groups: u8) -> VpcPolicy {
        let mut policy = policy(generation, interfaces);
        for interface in policy
            .interfaces
            .iter_mut()
            .filter(|i| i.private_ip.octets()[3] % 7 == changed)
        {
            interface.hostname = format!("changed-{changed}");
        }
        let members: Vec<Ipv4Addr> = policy.interfaces.iter().map(|i| i.private_ip).collect();
        policy.groups = crate::testing::policy(0, &(0..groups).collect::<Vec<_>>()).groups;
        for group in &mut policy.groups {
            group.members.clone_from(&members);
        }
        // Some of them are on one or two other hosts as well, as far as the file is concerned.
        let peers: Vec<_> = (0..changed % 3)
            .map(|n| TunnelPeer {
                host: Ipv4Addr::new(10, 200, 0, n),
                addresses: members.iter().skip(usize::from(n)).copied().collect(),
            })
            .collect();
        policy.tunnel = (!peers.is_empty()).then_some(TunnelPolicy { vni: 7, peers });
        policy
    }

    proptest! {
        #[test]
        fn what_was_written_last_is_read(
            steps in prop::collection::vec((prop::collection::vec(0_u8..40, 0..20), 0_u8..9, 1_u8..3), 1..20)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("policy.json");
            let mut kept = None;
            for (number, (mut interfaces, changed, groups)) in steps.into_iter().enumerate() {
                let mut seen = HashSet::new();
                interfaces.retain(|n| seen.insert(*n));
                let policy = Arc::new(made(number as u64, &interfaces, changed, groups));
                kept = Some(write(&path, kept.take(), policy.clone()).unwrap());
                prop_assert_eq!(&read(&path).unwrap(), &*policy);
            }
        }
    }

    #[test]
    fn what_changed_is_written_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        let length = || fs::metadata(&path).unwrap().len();
        let mut all: Vec<u8> = (0..200).collect();
        let mut kept = write(&path, None, Arc::new(made(1, &all, 9, 2))).unwrap();
        let whole = length();
        // Two in the middle, one at the end; two go.
        all.insert(50, 201);
        all.insert(150, 202);
        all.push(203);
        kept = write(&path, Some(kept), Arc::new(made(2, &all, 9, 2))).unwrap();
        all.retain(|n| ![7, 199].contains(n));
        kept = write(&path, Some(kept), Arc::new(made(3, &all, 9, 2))).unwrap();
        assert!(length() - whole < whole / 20, "{whole} and {}", length() - whole);
        assert_eq!(read(&path).unwrap(), made(3, &all, 9, 2));
        // Cut off in the middle of a line: as if it had not been written.
        let good = length();
        all.push(204);
        write(&path, Some(kept), Arc::new(made(4, &all, 9, 2))).unwrap();
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 1]).unwrap();
        assert_eq!(read(&path).unwrap().generation, 3);
        // What fits nothing is refused as a whole.
        let mut text = text[..usize::try_from(good).unwrap()].to_vec();
        text.extend(b"{\"generation\":9,\"subnets\":[{\"at\":7,\"gone\":1,\"put\":[]}],\"interfaces\":[],\"groups\":[]}\n");
        fs::write(&path, &text).unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn a_file_of_many_changes_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        let mut kept = None;
        for generation in 0..2000 {
            let all = [1, 2, 3 + u8::try_from(generation % 2).unwrap()];
            kept = Some(write(&path, kept, Arc::new(made(generation, &all, 9, 1))).unwrap());
        }
        assert!(fs::metadata(&path).unwrap().len() < ROOM + 8192);
        assert_eq!(read(&path).unwrap().generation, 1999);
    }
}

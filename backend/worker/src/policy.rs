//! The choice between two policies of a VPC. Pure.

use std::{collections::HashSet, sync::Arc};

use cumulet_domain::{id::NetworkInterfaceId, network::VpcPolicy};

/// The policy to go by after `incoming`, given the one gone by so far.
///
/// The higher generation wins. An older one that comes, or another of the same generation, still adds the
/// interfaces that are `needed`: a guest that is being started must not lose its interface because
/// messages overtook each other, and two policies of the same generation may have been made before and
/// after a guest was placed here.
pub(crate) fn merge(
    current: Option<&Arc<VpcPolicy>>,
    incoming: &Arc<VpcPolicy>,
    needed: impl Fn(NetworkInterfaceId) -> bool,
) -> Arc<VpcPolicy> {
    let Some(current) = current else {
        return incoming.clone();
    };
    let (base, other) = if incoming.generation >= current.generation {
        (incoming, current)
    } else {
        (current, incoming)
    };
    if incoming.generation > current.generation || Arc::ptr_eq(base, other) {
        return base.clone();
    }
    let has: HashSet<_> = base.interfaces.iter().map(|i| i.id).collect();
    let missing: Vec<_> = other
        .interfaces
        .iter()
        .filter(|i| !has.contains(&i.id) && needed(i.id))
        .collect();
    if missing.is_empty() {
        return base.clone();
    }
    let mut merged = VpcPolicy::clone(base);
    for interface in missing {
        // Here, and no longer or not yet elsewhere.
        for peer in merged.tunnel.iter_mut().flat_map(|tunnel| &mut tunnel.peers) {
            peer.addresses.retain(|address| *address != interface.private_ip);
        }
        merged.interfaces.push(interface.clone());
        for group in &interface.groups {
            if !merged.groups.iter().any(|g| g.id == *group) {
                merged
                    .groups
                    .extend(other.groups.iter().find(|g| g.id == *group).cloned());
            }
        }
        if !merged.subnets.iter().any(|s| s.id == interface.subnet) {
            merged
                .subnets
                .extend(other.subnets.iter().find(|s| s.id == interface.subnet).cloned());
        }
    }
    Arc::new(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{interface, policy};

    fn ids(policy: &VpcPolicy) -> Vec<u64> {
        policy.interfaces.iter().map(|i| i.id.number() & 0xff).collect()
    }

    #[test]
    fn the_newer_wins_and_what_is_needed_stays() {
        for (old, old_ids, new, new_ids, needed, expected) in [
            // (generation, interfaces) so far, (generation, interfaces) that comes, needed, result
            (1, vec![1], 2, vec![2], vec![1], vec![2]),
            (2, vec![1], 1, vec![2], vec![], vec![1]),
            (2, vec![1], 1, vec![1, 2], vec![2], vec![1, 2]),
            (2, vec![1, 2], 2, vec![1], vec![1, 2], vec![1, 2]),
            (2, vec![1, 2], 2, vec![1], vec![1], vec![1]),
            (2, vec![1], 2, vec![1, 2], vec![1, 2], vec![1, 2]),
        ] {
            let needed: Vec<_> = needed.into_iter().map(|n| interface(n).id).collect();
            let current = Arc::new(policy(old, &old_ids));
            let incoming = Arc::new(policy(new, &new_ids));
            let merged = merge(Some(&current), &incoming, |id| needed.contains(&id));
            assert_eq!(ids(&merged), expected);
            assert_eq!(merged.generation, old.max(new));
            for interface in &merged.interfaces {
                assert!(merged.subnets.iter().any(|s| s.id == interface.subnet));
                for group in &interface.groups {
                    assert!(merged.groups.iter().any(|g| g.id == *group));
                }
            }
        }
    }
}

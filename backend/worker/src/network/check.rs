//! The validation of a policy before it becomes rules, files and commands: a contradiction is refused as a
//! whole, so that nothing is enforced by half. What is wrong about another host costs that host alone: it is left out
//! and told, and all the rest is enforced.

use std::{borrow::Cow, collections::HashSet, net::Ipv4Addr};

use cumulet_domain::{
    host_address::check_tunnel_address,
    network::{InterfacePolicy, SubnetPolicy, TunnelPeer, TunnelPolicy, VpcPolicy},
};

use super::{NetworkError, Result, names::GATEWAY_MAC};

/// The gateway of a subnet: the second address.
pub(super) fn gateway(subnet: &SubnetPolicy) -> Ipv4Addr {
    subnet.cidr.nth(1).unwrap_or_else(|| subnet.cidr.network())
}

/// The subnet of an interface.
pub(super) fn subnet_of<'a>(policy: &'a VpcPolicy, interface: &InterfacePolicy) -> Option<&'a SubnetPolicy> {
    policy.subnets.iter().find(|s| s.id == interface.subnet)
}

/// What of a policy can be enforced on a host whose own tunnels end at `own`, and what of other hosts was left out,
/// in words.
///
/// # Errors
/// For policies that contradict themselves or have names that mean more than a name.
pub(super) fn sound(policy: &VpcPolicy, own: Option<Ipv4Addr>) -> Result<(Cow<'_, VpcPolicy>, Vec<String>)> {
    let mut addresses = check(policy)?;
    let Some(tunnel) = &policy.tunnel else {
        return Ok((Cow::Borrowed(policy), Vec::new()));
    };
    let mut left_out = Vec::new();
    let mut peers = Vec::new();
    if !(1..1 << 24).contains(&tunnel.vni) {
        left_out.push(format!(
            "{}: the number of its tunnel is not one of 24 bits",
            policy.vpc
        ));
    } else {
        addresses.extend(policy.subnets.iter().map(gateway));
        let mut hosts: HashSet<Ipv4Addr> = own.into_iter().collect();
        for peer in &tunnel.peers {
            match check_peer(policy, peer, &mut hosts, &mut addresses) {
                Ok(()) => peers.push(peer.clone()),
                Err(what) => left_out.push(format!("{}: the host at {}: {what}", policy.vpc, peer.host)),
            }
        }
    }
    if left_out.is_empty() {
        return Ok((Cow::Borrowed(policy), left_out));
    }
    let tunnel = TunnelPolicy {
        vni: tunnel.vni,
        peers,
    };
    let sound = VpcPolicy {
        tunnel: Some(tunnel).filter(|tunnel| !tunnel.peers.is_empty()),
        ..policy.clone()
    };
    Ok((Cow::Owned(sound), left_out))
}

/// Refuses what contradicts itself here, on this host; the addresses that are taken.
fn check(policy: &VpcPolicy) -> Result<HashSet<Ipv4Addr>> {
    let bad = |what: String| -> Result<HashSet<Ipv4Addr>> {
        Err(NetworkError::Policy(format!("{}: {what}", policy.vpc)))
    };
    for subnet in &policy.subnets {
        let first = subnet.cidr.network();
        if subnet.cidr.prefix() > 29 || first.is_link_local() || !plain(first) {
            return bad(format!("the block {} of {}", subnet.cidr, subnet.id));
        }
    }
    let mut ids = HashSet::new();
    let mut addresses = HashSet::new();
    let mut macs = HashSet::new();
    for interface in &policy.interfaces {
        if let Err(what) = check_interface(policy, interface) {
            return bad(format!("{}: {what}", interface.id));
        }
        let unique = ids.insert(interface.id)
            && macs.insert(interface.mac)
            && addresses.insert(interface.private_ip)
            && interface.public_ip.is_none_or(|a| addresses.insert(a));
        if !unique {
            return bad(format!(
                "{} has an id or an address of another interface",
                interface.id
            ));
        }
    }
    let groups: HashSet<_> = policy.groups.iter().map(|g| g.id).collect();
    if groups.len() != policy.groups.len() {
        return bad("a group is there twice".to_owned());
    }
    match policy
        .interfaces
        .iter()
        .flat_map(|i| &i.groups)
        .find(|g| !groups.contains(g))
    {
        Some(group) => bad(format!("{group} is missing")),
        None => Ok(addresses),
    }
}

fn check_interface(policy: &VpcPolicy, interface: &InterfacePolicy) -> Result<(), &'static str> {
    let subnet = subnet_of(policy, interface).ok_or("its subnet is missing")?;
    let address = interface.private_ip;
    let last = subnet.cidr.nth(subnet.cidr.size() - 1);
    if !subnet.cidr.contains(address)
        || address == subnet.cidr.network()
        || address == gateway(subnet)
        || Some(address) == last
    {
        return Err("its address is not one of a guest in its subnet");
    }
    if interface
        .public_ip
        .is_some_and(|a| a.is_link_local() || !plain(a))
    {
        return Err("its public address is not one");
    }
    let [first, ..] = interface.mac.0;
    if first & 1 != 0 || interface.mac == GATEWAY_MAC || interface.mac.0 == [0; 6] {
        return Err("its Ethernet address is not one of a guest");
    }
    let name = interface.hostname.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    if name.len() > 63
        || !edge(name.first())
        || !edge(name.last())
        || !name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    {
        return Err("its host name is not letters, digits and dashes");
    }
    Ok(())
}

/// One other host with its instances, given the hosts and the addresses that are taken; its own are taken from now
/// on, if it is as it should be.
fn check_peer(
    policy: &VpcPolicy,
    peer: &TunnelPeer,
    hosts: &mut HashSet<Ipv4Addr>,
    addresses: &mut HashSet<Ipv4Addr>,
) -> Result<(), &'static str> {
    check_tunnel_address(peer.host)?;
    if hosts.contains(&peer.host) {
        return Err("its address is another host's too");
    }
    let mut theirs = HashSet::new();
    for address in &peer.addresses {
        if !policy.cidr.contains(*address) || addresses.contains(address) || !theirs.insert(*address) {
            return Err("an instance there has an address that is not its own");
        }
    }
    hosts.insert(peer.host);
    addresses.extend(theirs);
    Ok(())
}

/// Whether an address can be a host's on a network.
fn plain(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && !address.is_loopback() && !address.is_multicast() && first < 240
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{policy, spread},
        *,
    };

    #[test]
    fn contradictions_are_refused() {
        assert!(check(&policy(3)).is_ok());
        type Edit = fn(&mut VpcPolicy);
        let edits: &[(&str, Edit)] = &[
            ("subnet missing", |p| p.subnets.clear()),
            ("group missing", |p| p.groups.clear()),
            ("group twice", |p| p.groups.push(p.groups[0].clone())),
            ("outside", |p| {
                p.interfaces[0].private_ip = Ipv4Addr::new(10, 9, 9, 9)
            }),
            ("gateway", |p| {
                p.interfaces[0].private_ip = Ipv4Addr::new(172, 31, 16, 1)
            }),
            ("network", |p| {
                p.interfaces[0].private_ip = Ipv4Addr::new(172, 31, 16, 0)
            }),
            ("broadcast", |p| {
                p.interfaces[0].private_ip = Ipv4Addr::new(172, 31, 31, 255)
            }),
            ("same address", |p| {
                p.interfaces[0].private_ip = p.interfaces[1].private_ip
            }),
            ("same mac", |p| p.interfaces[0].mac = p.interfaces[1].mac),
            ("same id", |p| p.interfaces[0].id = p.interfaces[1].id),
            ("gateway's mac", |p| p.interfaces[0].mac = GATEWAY_MAC),
            ("multicast mac", |p| p.interfaces[0].mac.0[0] |= 1),
            ("public metadata", |p| {
                p.interfaces[0].public_ip = Some(Ipv4Addr::new(169, 254, 169, 254))
            }),
            ("public loopback", |p| {
                p.interfaces[0].public_ip = Some(Ipv4Addr::LOCALHOST)
            }),
            ("newline", |p| {
                p.interfaces[0].hostname = "a\ndhcp-script=/x".into()
            }),
            ("comma", |p| p.interfaces[0].hostname = "a,ignore".into()),
            ("empty name", |p| p.interfaces[0].hostname.clear()),
            ("dash", |p| p.interfaces[0].hostname = "-a".into()),
            ("long name", |p| p.interfaces[0].hostname = "a".repeat(64)),
        ];
        for (what, edit) in edits {
            let mut policy = policy(3);
            edit(&mut policy);
            assert!(check(&policy).is_err(), "{what}");
        }
    }

    /// Every way in which another host can be wrong costs that host, and nothing else.
    #[test]
    fn what_is_wrong_about_another_host_costs_that_host_alone() {
        let own = Ipv4Addr::new(10, 200, 0, 1);
        let whole = spread(3);
        let good = sound(&whole, Some(own)).unwrap();
        assert!(matches!(good.0, Cow::Borrowed(_)) && good.1.is_empty());
        type Edit = fn(&mut TunnelPeer);
        let edits: &[(&str, Edit)] = &[
            ("nobody's", |p| p.host = Ipv4Addr::UNSPECIFIED),
            ("loopback", |p| p.host = Ipv4Addr::LOCALHOST),
            ("metadata", |p| p.host = Ipv4Addr::new(169, 254, 169, 254)),
            ("multicast", |p| p.host = Ipv4Addr::new(224, 0, 0, 1)),
            ("broadcast", |p| p.host = Ipv4Addr::BROADCAST),
            ("another host's", |p| p.host = Ipv4Addr::new(10, 200, 0, 2)),
            ("this host's", |p| p.host = Ipv4Addr::new(10, 200, 0, 1)),
            ("outside", |p| p.addresses[0] = Ipv4Addr::new(10, 0, 0, 1)),
            ("another's", |p| p.addresses[0] = Ipv4Addr::new(172, 31, 32, 4)),
            ("one of ours", |p| p.addresses[0] = Ipv4Addr::new(172, 31, 16, 4)),
            ("our gateway's", |p| {
                p.addresses[0] = Ipv4Addr::new(172, 31, 16, 1)
            }),
            ("twice", |p| p.addresses = vec![p.addresses[0]; 2]),
        ];
        for (what, edit) in edits {
            let mut policy = whole.clone();
            edit(&mut policy.tunnel.as_mut().unwrap().peers[1]);
            let (found, left_out) = sound(&policy, Some(own)).unwrap();
            assert_eq!(left_out.len(), 1, "{what}");
            let mut rest = whole.clone();
            rest.tunnel.as_mut().unwrap().peers.remove(1);
            assert_eq!(*found, rest, "{what}");
        }
        for vni in [0, 1 << 24] {
            let mut policy = whole.clone();
            policy.tunnel.as_mut().unwrap().vni = vni;
            let (found, left_out) = sound(&policy, Some(own)).unwrap();
            assert_eq!((found.tunnel.as_ref(), left_out.len()), (None, 1));
            assert_eq!(found.interfaces, whole.interfaces);
        }
    }
}

//! The validation of a policy before it becomes rules, files and commands: a contradiction is refused as a
//! whole, so that nothing is enforced by half.

use std::{collections::HashSet, net::Ipv4Addr};

use cumulet_domain::network::{InterfacePolicy, SubnetPolicy, VpcPolicy};

use super::{NetworkError, Result, names::GATEWAY_MAC};

/// The gateway of a subnet: the second address.
pub(super) fn gateway(subnet: &SubnetPolicy) -> Ipv4Addr {
    subnet.cidr.nth(1).unwrap_or_else(|| subnet.cidr.network())
}

/// The subnet of an interface.
pub(super) fn subnet_of<'a>(policy: &'a VpcPolicy, interface: &InterfacePolicy) -> Option<&'a SubnetPolicy> {
    policy.subnets.iter().find(|s| s.id == interface.subnet)
}

/// Refuses policies that contradict themselves or have names that mean more than a name.
pub(super) fn check(policy: &VpcPolicy) -> Result<()> {
    let bad = |what: String| Err(NetworkError::Policy(format!("{}: {what}", policy.vpc)));
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
    if let Err(what) = check_tunnel(policy, addresses) {
        return bad(what.to_owned());
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
        None => Ok(()),
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

/// The other hosts' instances are others than this host's, given the addresses that are taken here.
fn check_tunnel(policy: &VpcPolicy, mut addresses: HashSet<Ipv4Addr>) -> Result<(), &'static str> {
    let Some(tunnel) = &policy.tunnel else {
        return Ok(());
    };
    if !(1..1 << 24).contains(&tunnel.vni) {
        return Err("the number of its tunnel is not one of 24 bits");
    }
    addresses.extend(policy.subnets.iter().map(gateway));
    let mut hosts = HashSet::new();
    for peer in &tunnel.peers {
        if !plain(peer.host) || !hosts.insert(peer.host) {
            return Err("another host's address is not one, or is there twice");
        }
        for address in &peer.addresses {
            if !policy.cidr.contains(*address) || !addresses.insert(*address) {
                return Err("an instance elsewhere has an address that is not its own");
            }
        }
    }
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

    #[test]
    fn strangers_in_the_tunnel_are_refused() {
        assert!(check(&spread(3)).is_ok());
        type Edit = fn(&mut cumulet_domain::network::TunnelPolicy);
        let edits: &[(&str, Edit)] = &[
            ("no number", |t| t.vni = 0),
            ("too large", |t| t.vni = 1 << 24),
            ("host twice", |t| t.peers[1].host = t.peers[0].host),
            ("no host", |t| t.peers[1].host = Ipv4Addr::UNSPECIFIED),
            ("outside", |t| {
                t.peers[0].addresses[0] = Ipv4Addr::new(10, 0, 0, 1)
            }),
            ("twice", |t| t.peers[0].addresses[0] = t.peers[1].addresses[0]),
            ("one of ours", |t| {
                t.peers[0].addresses[0] = Ipv4Addr::new(172, 31, 16, 4)
            }),
            ("our gateway's", |t| {
                t.peers[0].addresses[0] = Ipv4Addr::new(172, 31, 16, 1)
            }),
        ];
        for (what, edit) in edits {
            let mut policy = spread(3);
            edit(policy.tunnel.as_mut().unwrap());
            assert!(check(&policy).is_err(), "{what}");
        }
    }
}

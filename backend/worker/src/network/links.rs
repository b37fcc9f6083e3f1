//! Batches for `ip -batch`: taps, addresses, neighbours, routes and the uplink.
//!
//! Each guest hangs on a routed tap of its own: the tap has the gateway's address, a route and a fixed
//! neighbour entry lead to the guest, and proxy ARP answers for everybody else whom the namespace
//! knows. No frame of a guest reaches another guest; packets do, through the rules.

use std::{collections::BTreeSet, fmt::Write as _, net::Ipv4Addr};

use cumulet_domain::{
    id::{NetworkInterfaceId, VpcId},
    network::{Cidr, InterfacePolicy, SubnetPolicy},
};

use super::{
    check::gateway,
    config::Config,
    firewall::FROM_UPLINK,
    names::{GATEWAY_MAC, UPLINK, UPLINK_MAC, alias, device_name, uplink_name},
};

/// The metadata service's address.
pub(super) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The routing table for replies to the uplink, whatever the VPC's own block says of the address.
const UPLINK_TABLE: u32 = 100;

/// In the host's namespace: the tap of an interface, down and without IPv6.
pub(super) fn make_tap(config: &Config, interface: NetworkInterfaceId) -> String {
    let device = device_name(interface);
    let owner = config
        .tap_owner
        .map(|uid| format!(" user {uid}"))
        .unwrap_or_default();
    format!(
        "tuntap add dev {device} mode tap{owner}\nlink set dev {device} mtu {} addrgenmode none alias {}\n",
        config.mtu,
        alias(&config.cloud)
    )
}

/// In the namespace: what it has before any interface.
pub(super) fn base(cidr: Cidr) -> String {
    // Nobody there: not the uplink's business either, and proxy ARP is silent.
    format!(
        "link set dev lo up\naddr replace {METADATA}/32 dev lo\nroute replace unreachable {cidr}\nroute replace unreachable 169.254.0.0/16\n"
    )
}

/// In the namespace: one tap.
pub(super) fn tap(config: &Config, subnet: &SubnetPolicy, interface: &InterfacePolicy) -> String {
    let device = device_name(interface.id);
    let (gateway, prefix) = (gateway(subnet), subnet.cidr.prefix());
    let (ip, mac, mtu) = (interface.private_ip, interface.mac, config.mtu);
    format!(
        "link set dev {device} address {GATEWAY_MAC} mtu {mtu}\n\
         addr replace {gateway}/{prefix} dev {device} noprefixroute\n\
         ntable change name arp_cache dev {device} proxy_delay 0\n\
         link set dev {device} up\n\
         neigh replace {ip} lladdr {mac} dev {device} nud permanent\n\
         route replace {ip}/32 dev {device} scope link\n"
    )
}

/// In the host's namespace: the pair of the uplink, its inner end in `namespace`. Both ends have the
/// same Ethernet address and no ARP, by which each takes its own address for the other's: no
/// neighbours to resolve or to forge.
pub(super) fn make_uplink(config: &Config, vpc: VpcId, namespace: &str) -> String {
    let device = uplink_name(vpc);
    let mtu = config.mtu;
    format!(
        "link add name {device} address {UPLINK_MAC} mtu {mtu} type veth peer name {UPLINK} address {UPLINK_MAC} mtu {mtu} netns {namespace}\n\
         link set dev {device} arp off addrgenmode none alias {}\n\
         link set dev {device} up\n",
        alias(&config.cloud)
    )
}

/// In the namespace: its end of the uplink, and the rule by which replies to connections from there leave
/// there again (once, however often this is done).
pub(super) fn uplink(config: &Config) -> String {
    let mut text = format!(
        "rule flush table {UPLINK_TABLE}\nrule add fwmark {FROM_UPLINK} lookup {UPLINK_TABLE}\n\
         link set dev {UPLINK} arp off\nlink set dev {UPLINK} up\nroute replace default dev {UPLINK} table {UPLINK_TABLE}\n"
    );
    if config.uplink_egress {
        let _ = writeln!(text, "route replace default dev {UPLINK}");
    }
    text
}

/// In the host's namespace: the public addresses behind an uplink, given those that are routed now.
pub(super) fn public_routes(vpc: VpcId, wanted: &BTreeSet<Ipv4Addr>, present: &BTreeSet<Ipv4Addr>) -> String {
    let device = uplink_name(vpc);
    let mut text = String::new();
    for address in wanted.difference(present) {
        let _ = writeln!(text, "route replace {address}/32 dev {device} scope link");
    }
    for address in present.difference(wanted) {
        let _ = writeln!(text, "route del {address}/32 dev {device}");
    }
    text
}

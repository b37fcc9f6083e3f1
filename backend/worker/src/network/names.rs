//! Names of devices, namespaces and tables, and the ids in them: `cumulet audit` reads those back.

use std::net::Ipv4Addr;

use cumulet_domain::{
    id::{Id, NetworkInterfaceId, Resource, VpcId},
    network::Mac,
};

/// The Ethernet address of the gateway on every tap of every host. Guests' begin with `02:16`.
pub(super) const GATEWAY_MAC: Mac = Mac([0x0a, 0x16, 0, 0, 0, 1]);
/// The Ethernet address of both ends of an uplink: see `links`.
pub(super) const UPLINK_MAC: Mac = Mac([0x0a, 0x16, 0, 0, 0, 2]);
/// The inner end of the uplink. Must not begin like a tap.
pub(super) const UPLINK: &str = "uplink";
/// The device that leads to the VPC's other hosts. Must not begin like a tap.
pub(super) const TUNNEL: &str = "tunnel";
/// The nftables table, in the families `inet` and `arp`.
pub(super) const TABLE: &str = "cumulet";
/// Where `ip netns` keeps its namespaces.
pub(super) const NAMESPACES: &str = "/run/netns";
const TAP: &str = "cu";
const VETH: &str = "cv";

/// The name of an interface's tap: `cu` and the short form of the id, 15 characters.
pub fn device_name(interface: NetworkInterfaceId) -> String {
    format!("{TAP}{}", interface.short())
}

/// The interface whose tap has this name.
pub(super) fn interface_of(device: &str) -> Option<NetworkInterfaceId> {
    parse_short(device.strip_prefix(TAP)?)
}

/// The hosts' ends of all uplinks, as nftables has it.
pub(super) const UPLINKS: &str = "cv*";

/// The host's end of a VPC's uplink.
pub(super) fn uplink_name(vpc: VpcId) -> String {
    format!("{VETH}{}", vpc.short())
}

/// A VPC's namespace.
pub(super) fn namespace_name(cloud: &str, vpc: VpcId) -> String {
    format!("cumulet-{cloud}-{vpc}")
}

/// The VPC whose namespace has this name.
pub(super) fn vpc_of(cloud: &str, namespace: &str) -> Option<VpcId> {
    namespace
        .strip_prefix("cumulet-")?
        .strip_prefix(cloud)?
        .strip_prefix('-')?
        .parse()
        .ok()
}

/// The Ethernet address of a host's end of every tunnel, from its tunnel address.
pub(super) fn tunnel_mac(host: Ipv4Addr) -> Mac {
    let [a, b, c, d] = host.octets();
    Mac([0x0a, 0x17, a, b, c, d])
}

/// The mark of ownership on the taps that are still in the host's namespace.
pub(super) fn alias(cloud: &str) -> String {
    format!("cumulet-{cloud}")
}

/// The inverse of `Id::short`.
fn parse_short<R: Resource>(text: &str) -> Option<Id<R>> {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    if text.len() != 13 {
        return None;
    }
    let mut number: u64 = 0;
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|d| *d == byte)?;
        number = number.checked_mul(32)?.checked_add(digit as u64)?;
    }
    Some(Id::new(number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_lead_back(number: u64) {
            let interface = NetworkInterfaceId::new(number);
            let device = device_name(interface);
            prop_assert_eq!(device.len(), 15);
            prop_assert_eq!(interface_of(&device), Some(interface));
            let vpc = VpcId::new(number);
            prop_assert_eq!(vpc_of("main", &namespace_name("main", vpc)), Some(vpc));
            prop_assert_eq!(vpc_of("mai", &namespace_name("main", vpc)), None);
            prop_assert_eq!(uplink_name(vpc).len(), 15);
        }
    }

    #[test]
    fn strange_names_are_nobodys() {
        for name in [
            "",
            "cu",
            "lo",
            "uplink",
            "tunnel",
            "cuzzzzzzzzzzzzz",
            "cu000000000000u",
            "cu00000000000000",
            "cv0000000000001",
        ] {
            assert_eq!(interface_of(name), None, "{name:?}");
        }
    }
}

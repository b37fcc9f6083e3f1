//! Networks as hosts see them: addresses, security group rules, and the policy that a host enforces
//! for one VPC.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    id::{NetworkInterfaceId, SecurityGroupId, SubnetId, VpcId},
    text,
};

/// An IPv4 block: an address whose host bits are zero, and a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr(Ipv4Net);

impl Cidr {
    /// The block of `prefix` bits around `address`; host bits are cleared. `prefix` above 32 means 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let around = Ipv4Net::new(address, prefix);
        Cidr(around.unwrap_or_else(|_| address.into()).trunc())
    }

    /// Reads `a.b.c.d/n` and clears host bits that are set. Numbers have one spelling, so that nobody takes
    /// `010.0.0.0/8` or `10.0.0.0/08` for something else.
    pub fn around(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = text::number(prefix).filter(|prefix| *prefix <= 32)?;
        Some(Cidr::new(address.parse().ok()?, prefix))
    }

    /// The first address.
    pub fn network(self) -> Ipv4Addr {
        self.0.network()
    }

    /// The length of the prefix in bits.
    pub const fn prefix(self) -> u8 {
        self.0.prefix_len()
    }

    /// The netmask.
    pub fn netmask(self) -> Ipv4Addr {
        self.0.netmask()
    }

    /// How many addresses the block has.
    pub const fn size(self) -> u64 {
        1 << (32 - self.prefix())
    }

    /// The address at `offset` from the first one; `None` outside the block.
    pub fn nth(self, offset: u64) -> Option<Ipv4Addr> {
        let offset = u32::try_from(offset)
            .ok()
            .filter(|o| u64::from(*o) < self.size())?;
        Some((u32::from(self.network()) + offset).into())
    }

    /// Whether `address` is inside.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Cidr {
    type Err = crate::Error;

    /// Parses `a.b.c.d/n`. Host bits that are set are an error, so that no rule means more than it shows.
    fn from_str(text: &str) -> crate::Result<Self> {
        let bad = |reason| crate::Error::invalid("CidrIp", text, reason);
        let (address, prefix) = text
            .split_once('/')
            .ok_or_else(|| bad("expecting a block such as 10.0.0.0/16"))?;
        let address: Ipv4Addr = address
            .parse()
            .map_err(|_| bad("expecting a block such as 10.0.0.0/16"))?;
        let prefix: u8 = text::number(prefix)
            .filter(|prefix| *prefix <= 32)
            .ok_or_else(|| bad("the prefix is 0 to 32"))?;
        let cidr = Cidr::new(address, prefix);
        if cidr.network() == address {
            Ok(cidr)
        } else {
            Err(bad("bits right of the prefix are set"))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of an interface: locally administered, unicast, from the id's low 32 bits. A unique
    /// key of the database keeps two interfaces of a VPC from having the same.
    pub const fn of(interface: NetworkInterfaceId) -> Mac {
        let [_, _, _, _, a, b, c, d] = interface.number().to_be_bytes();
        Mac([0x02, 0x16, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        let bad = || crate::Error::invalid("MacAddress", text, "expecting 02:16:00:00:00:01");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(Mac(bytes))
        }
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Which packets a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// Every protocol, every port (`-1`).
    All,
    /// TCP to ports `from..=to`.
    Tcp {
        /// The first port.
        from: u16,
        /// The last port.
        to: u16,
    },
    /// UDP to ports `from..=to`.
    Udp {
        /// The first port.
        from: u16,
        /// The last port.
        to: u16,
    },
    /// ICMP of a type and a code; `None` means every one.
    Icmp {
        /// The ICMP type.
        kind: Option<u8>,
        /// The ICMP code.
        code: Option<u8>,
    },
    /// Another IP protocol, by its number, without ports.
    Protocol(u8),
}

/// The other side of a rule: the source of an ingress rule, the destination of an egress rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// Addresses in a block.
    Cidr(Cidr),
    /// The private addresses of the interfaces in a group of the same VPC.
    Group(SecurityGroupId),
}

/// Which way the packets of a rule go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Direction {
    Ingress,
    Egress,
}

/// What one rule of a security group lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// Which way.
    pub direction: Direction,
    /// Which packets.
    pub traffic: Traffic,
    /// From or to where.
    pub peer: Peer,
}

/// A security group as a host needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPolicy {
    /// Which group.
    pub id: SecurityGroupId,
    /// Its rules, sorted.
    pub rules: Vec<Rule>,
    /// The private addresses of its members in the whole VPC, sorted; empty when no rule names the group.
    pub members: Vec<Ipv4Addr>,
}

/// A subnet as a host needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetPolicy {
    /// Which subnet.
    pub id: SubnetId,
    /// Its block. The gateway is its second address (`nth(1)`).
    pub cidr: Cidr,
}

/// An interface of an instance on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePolicy {
    /// Which interface.
    pub id: NetworkInterfaceId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its private address, in the subnet.
    pub private_ip: Ipv4Addr,
    /// Its public address, translated to the private one.
    pub public_ip: Option<Ipv4Addr>,
    /// The host name that DHCP hands out: letters, digits and dashes.
    pub hostname: String,
    /// Its security groups; a packet passes when one of them lets it.
    pub groups: Vec<SecurityGroupId>,
}

/// Instances of the VPC on one other host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelPeer {
    /// The other host's tunnel address.
    pub host: Ipv4Addr,
    /// The private addresses of the interfaces there, sorted.
    pub addresses: Vec<Ipv4Addr>,
}

/// The VPC's part on other hosts, and how this host reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelPolicy {
    /// The VPC's number in the tunnels: 24 bits, never 0, no other VPC's.
    pub vni: u32,
    /// The other hosts with instances of the VPC, sorted by address, at least one.
    pub peers: Vec<TunnelPeer>,
}

/// All that one host enforces for one VPC: applied as a whole, atomically. Higher generations replace
/// lower ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcPolicy {
    /// Which VPC.
    pub vpc: VpcId,
    /// The policy's generation in the database.
    pub generation: u64,
    /// The VPC's block.
    pub cidr: Cidr,
    /// The subnets that the interfaces are in.
    pub subnets: Vec<SubnetPolicy>,
    /// The interfaces of instances on this host.
    pub interfaces: Vec<InterfacePolicy>,
    /// Every group that an interface is in.
    pub groups: Vec<GroupPolicy>,
    /// The instances on other hosts; `None` when there are none that can be reached.
    #[serde(default)]
    pub tunnel: Option<TunnelPolicy>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_parse_strictly() {
        for text in ["10.0.0.0/16", "0.0.0.0/0", "192.168.1.7/32", "172.31.16.0/20"] {
            assert_eq!(text.parse::<Cidr>().map(|c| c.to_string()).as_deref(), Ok(text));
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.1/16",
            "10.0.0/8",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "a/8",
            "::/0",
            "010.0.0.0/8",
            "10.0.0.0/008",
            "10.0.0.0/08",
            "10.0.0.0/ 8",
            " 10.0.0.0/8",
            "10.0.0.00/8",
            "10.0.0.0/8/8",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
            let inexact = text == "10.0.0.1/16";
            assert_eq!(Cidr::around(text).is_some(), inexact, "{text:?}");
        }
    }

    #[test]
    fn addresses_of_a_block() {
        let block = Cidr::new(Ipv4Addr::new(172, 31, 16, 9), 20);
        assert_eq!(block.to_string(), "172.31.16.0/20");
        assert_eq!(block.size(), 4096);
        assert_eq!(block.nth(1), Some(Ipv4Addr::new(172, 31, 16, 1)));
        assert_eq!(block.nth(4096), None);
        assert!(block.contains(Ipv4Addr::new(172, 31, 31, 255)));
        assert!(!block.contains(Ipv4Addr::new(172, 31, 32, 0)));
        let (all, one) = (
            Cidr::new(Ipv4Addr::BROADCAST, 0),
            Cidr::new(Ipv4Addr::BROADCAST, 33),
        );
        assert_eq!((all.to_string().as_str(), all.size()), ("0.0.0.0/0", 1 << 32));
        assert_eq!(all.nth(u64::from(u32::MAX)), Some(Ipv4Addr::BROADCAST));
        assert_eq!((one.to_string().as_str(), one.size()), ("255.255.255.255/32", 1));
        assert!(all.contains(Ipv4Addr::BROADCAST) && !one.contains(Ipv4Addr::UNSPECIFIED));
        assert_eq!(
            (all.netmask(), one.netmask()),
            (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)
        );
    }

    #[test]
    fn blocks_are_sorted_by_address_and_then_by_length() {
        let texts = [
            "0.0.0.0/0",
            "9.0.0.0/8",
            "10.0.0.0/8",
            "10.0.0.0/16",
            "10.1.0.0/16",
            "200.0.0.0/8",
        ];
        let blocks: Vec<Cidr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(blocks.is_sorted());
    }

    #[test]
    fn macs_are_local_unicast_and_lead_back() {
        let mac = Mac::of(NetworkInterfaceId::new(0xdead_beef_0102_0304));
        assert_eq!(mac.to_string(), "02:16:01:02:03:04");
        assert_eq!("02:16:01:02:03:04".parse(), Ok(mac));
        assert!("02:16:01:02:03".parse::<Mac>().is_err());
    }
}

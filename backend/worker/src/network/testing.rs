//! Policies for the tests of this module.

use std::net::Ipv4Addr;

use cumulet_domain::{
    id::{NetworkInterfaceId, SecurityGroupId, SubnetId, VpcId},
    network::{
        Cidr, Direction, GroupPolicy, InterfacePolicy, Mac, Peer, Rule, SubnetPolicy, Traffic, TunnelPeer,
        TunnelPolicy, VpcPolicy,
    },
};

/// A policy of one subnet and one group, in which the first interface has a public address.
pub(super) fn policy(interfaces: u32) -> VpcPolicy {
    let cidr = Cidr::new(Ipv4Addr::new(172, 31, 0, 0), 16);
    let subnet = SubnetId::new(0x1_0000_0001);
    let group = SecurityGroupId::new(0x2_0000_0001);
    let interfaces: Vec<_> = (0..interfaces)
        .map(|n| {
            let id = NetworkInterfaceId::new(0x3_0000_0000 + u64::from(n));
            InterfacePolicy {
                id,
                subnet,
                mac: Mac::of(id),
                private_ip: Ipv4Addr::from(0xac1f_1004 + n),
                public_ip: (n == 0).then_some(Ipv4Addr::new(198, 51, 100, 7)),
                hostname: format!("guest-{n}"),
                groups: vec![group],
            }
        })
        .collect();
    let rule = |direction, traffic, peer| Rule {
        direction,
        traffic,
        peer,
    };
    let anywhere = Peer::Cidr(Cidr::new(Ipv4Addr::UNSPECIFIED, 0));
    VpcPolicy {
        vpc: VpcId::new(0x4_0000_0001),
        generation: 1,
        cidr,
        subnets: vec![SubnetPolicy {
            id: subnet,
            cidr: Cidr::new(Ipv4Addr::new(172, 31, 16, 0), 20),
        }],
        groups: vec![GroupPolicy {
            id: group,
            rules: vec![
                rule(Direction::Ingress, Traffic::Tcp { from: 22, to: 22 }, anywhere),
                rule(Direction::Ingress, Traffic::All, Peer::Group(group)),
                rule(Direction::Egress, Traffic::All, anywhere),
            ],
            members: interfaces.iter().map(|i| i.private_ip).collect(),
        }],
        interfaces,
        tunnel: None,
    }
}

/// The same with instances on two other hosts.
pub(super) fn spread(interfaces: u32) -> VpcPolicy {
    let peer = |host: u8, addresses: &[u8]| TunnelPeer {
        host: Ipv4Addr::new(10, 200, 0, host),
        addresses: addresses.iter().map(|n| Ipv4Addr::new(172, 31, 32, *n)).collect(),
    };
    VpcPolicy {
        tunnel: Some(TunnelPolicy {
            vni: 0x2a,
            peers: vec![peer(2, &[4, 5]), peer(3, &[6])],
        }),
        ..policy(interfaces)
    }
}

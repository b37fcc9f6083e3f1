//! The nftables expression of one security group rule.

use cumulet_domain::network::{Direction, Peer, Rule, Traffic};

use super::MAY_LEAVE;

/// One rule. ICMP errors have the protocol ICMP and belong to the connection that they are about, so
/// the packet's protocol may be either. (Naming the protocol also tells nft how to read the ports.)
pub(super) fn rule(rule: &Rule, letter: char) -> String {
    let tracked = |name: &str| format!("meta l4proto {{ icmp, {name} }} ct original protocol {name}");
    let ports = |name: &str, from: u16, to: u16| match (from, to) {
        (0, u16::MAX) => tracked(name),
        (from, to) if from == to => format!("{} ct reply proto-src {from}", tracked(name)),
        (from, to) => format!("{} ct reply proto-src {from}-{to}", tracked(name)),
    };
    let icmp = "meta l4proto icmp ct original protocol icmp";
    // Connection tracking keeps type and code of a request in place of a port.
    let traffic = match rule.traffic {
        Traffic::All => String::new(),
        Traffic::Tcp { from, to } => ports("tcp", from, to),
        Traffic::Udp { from, to } => ports("udp", from, to),
        Traffic::Icmp {
            kind: None,
            code: None,
        } => icmp.to_owned(),
        Traffic::Icmp {
            kind: Some(kind),
            code: None,
        } => {
            let first = u16::from(kind) << 8;
            format!("{icmp} ct original proto-dst {first}-{}", first | 0xff)
        }
        Traffic::Icmp {
            kind: Some(kind),
            code: Some(code),
        } => {
            format!(
                "{icmp} ct original proto-dst {}",
                u16::from(kind) << 8 | u16::from(code)
            )
        }
        Traffic::Icmp {
            kind: None,
            code: Some(code),
        } => {
            format!("{icmp} ct original proto-dst & 0xff == {code}")
        }
        Traffic::Protocol(1) => icmp.to_owned(),
        Traffic::Protocol(number) => format!("ct original protocol {number}"),
    };
    let peer = peer(rule, letter);
    let verdict = match rule.direction {
        Direction::Egress => format!("meta mark set {MAY_LEAVE} return"),
        Direction::Ingress => "accept".to_owned(),
    };
    [traffic, peer, verdict]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The other side of the connection.
fn peer(rule: &Rule, letter: char) -> String {
    let end = match rule.direction {
        Direction::Egress => "ct reply ip saddr",
        Direction::Ingress => "ct original ip saddr",
    };
    match rule.peer {
        Peer::Cidr(block) if block.prefix() == 0 => String::new(),
        Peer::Cidr(block) => format!("{end} {block}"),
        Peer::Group(id) => format!("{end} @sg_{:x}_{letter}", id.number()),
    }
}

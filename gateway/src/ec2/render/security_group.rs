//! Security group rules: from EC2's permissions to the domain's rules and back.

use std::collections::BTreeMap;

use cumulet_backend::api::security_groups::{NewRule, PeerSpec, RuleView};
use cumulet_domain::network::{Cidr, Direction, Peer, Traffic};
use cumulet_wire::ec2::security_groups as shapes;

use crate::{
    ec2::ctx::{Ctx, id, shown_tags},
    fault::Fault,
};

/// Protocol, first and last port as EC2 writes them; for ICMP type and code, -1 meaning all.
pub(crate) fn ports(traffic: Traffic) -> (String, Option<i32>, Option<i32>) {
    let any = |number: Option<u8>| Some(number.map_or(-1, i32::from));
    match traffic {
        Traffic::All => ("-1".into(), None, None),
        Traffic::Tcp { from, to } => ("tcp".into(), Some(from.into()), Some(to.into())),
        Traffic::Udp { from, to } => ("udp".into(), Some(from.into()), Some(to.into())),
        Traffic::Icmp { kind, code } => ("icmp".into(), any(kind), any(code)),
        Traffic::Protocol(number) => (number.to_string(), None, None),
    }
}

/// What a protocol and its ports let pass.
///
/// # Errors
/// Unknown protocols, ports out of range or in the wrong order.
pub(crate) fn traffic(protocol: &str, from: Option<i32>, to: Option<i32>) -> Result<Traffic, Fault> {
    let name = protocol.to_ascii_lowercase();
    match name.as_str() {
        "-1" | "all" => Ok(Traffic::All),
        "tcp" | "6" => port_range(from, to).map(|(from, to)| Traffic::Tcp { from, to }),
        "udp" | "17" => port_range(from, to).map(|(from, to)| Traffic::Udp { from, to }),
        "icmp" | "1" => icmp(from, to),
        "icmpv6" | "58" => Err(Fault::coded(
            "UnsupportedOperation",
            400,
            "IPv6 is not supported.",
        )),
        number => match number.parse::<u8>() {
            Ok(number) => Ok(Traffic::Protocol(number)),
            Err(_) => Err(Fault::invalid(
                "IpProtocol",
                protocol,
                "expecting tcp, udp, icmp, -1 or a protocol's number",
            )),
        },
    }
}

fn port_range(from: Option<i32>, to: Option<i32>) -> Result<(u16, u16), Fault> {
    // -1 to -1 is an old spelling of every port.
    if (from, to) == (Some(-1), Some(-1)) {
        return Ok((0, u16::MAX));
    }
    let (Some(from), Some(to)) = (from, to) else {
        let message = "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.";
        return Err(Fault::coded("InvalidParameterValue", 400, message));
    };
    match (u16::try_from(from), u16::try_from(to)) {
        (Ok(from), Ok(to)) if from <= to => Ok((from, to)),
        _ => Err(Fault::invalid(
            "portRange",
            &format!("{from}-{to}"),
            "expecting ports from 0 to 65535 with the first not above the last",
        )),
    }
}

fn icmp(kind: Option<i32>, code: Option<i32>) -> Result<Traffic, Fault> {
    let number = |given: Option<i32>| match given {
        None | Some(-1) => Ok(None),
        Some(n) => u8::try_from(n)
            .map(Some)
            .map_err(|_| Fault::invalid("icmpType", &n.to_string(), "expecting -1 to 255")),
    };
    let (kind, code) = (number(kind)?, number(code)?);
    if kind.is_none() && code.is_some() {
        return Err(Fault::invalid("icmpCode", "", "a code needs a type"));
    }
    Ok(Traffic::Icmp { kind, code })
}

/// The rules that a list of permissions stands for: one for each source or destination.
///
/// # Errors
/// What can't be a rule here, with its reason.
pub(crate) fn rules(ctx: &Ctx, permissions: &[shapes::IpPermission]) -> Result<Vec<NewRule>, Fault> {
    let mut rules = Vec::new();
    for permission in permissions {
        let protocol = permission
            .ip_protocol
            .as_deref()
            .ok_or_else(|| Fault::missing("IpProtocol"))?;
        let traffic = traffic(protocol, permission.from_port, permission.to_port)?;
        if let Some(range) = permission.ipv6_ranges.first() {
            let value = range.cidr_ipv6.as_deref().unwrap_or_default();
            return Err(Fault::coded(
                "UnsupportedOperation",
                400,
                format!("The range {value} can't be used: IPv6 is not supported."),
            ));
        }
        let before = rules.len();
        for range in &permission.ip_ranges {
            rules.push(NewRule {
                traffic,
                peer: PeerSpec::Cidr(cidr(
                    range.cidr_ip.as_deref().ok_or_else(|| Fault::missing("CidrIp"))?,
                )?),
                description: range.description.clone().unwrap_or_default(),
            });
        }
        for pair in &permission.user_id_group_pairs {
            rules.push(NewRule {
                traffic,
                peer: group(ctx, pair)?,
                description: pair.description.clone().unwrap_or_default(),
            });
        }
        if rules.len() == before {
            return Err(Fault::missing("IpPermissions.N.IpRanges"));
        }
    }
    Ok(rules)
}

/// A block; host bits that are set are cleared, as EC2 does, and the rule shows what is in force.
pub(crate) fn cidr(text: &str) -> Result<Cidr, Fault> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let plain = !prefix.is_empty() && prefix.len() <= 2 && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = prefix.parse::<u8>().ok().filter(|p| plain && *p <= 32)?;
        Some(Cidr::new(address.parse().ok()?, prefix))
    });
    parsed.ok_or_else(|| {
        let shown: String = text.chars().take(128).collect();
        Fault::coded(
            "InvalidParameterValue",
            400,
            format!("CIDR block {shown} is malformed"),
        )
    })
}

fn group(ctx: &Ctx, pair: &shapes::UserIdGroupPair) -> Result<PeerSpec, Fault> {
    if let Some(owner) = pair.user_id.as_deref().filter(|owner| *owner != ctx.account()) {
        let reason = "groups of other accounts can't be named in rules";
        return Err(Fault::invalid("UserId", owner, reason));
    }
    match (&pair.group_id, &pair.group_name) {
        (Some(text), _) => Ok(PeerSpec::Group(id(text)?)),
        (None, Some(name)) => Ok(PeerSpec::GroupName(name.clone())),
        (None, None) => Err(Fault::missing("GroupId")),
    }
}

/// Rules of one direction as permissions: those of the same protocol and ports together.
pub(crate) fn permissions(rules: &[RuleView], direction: Direction) -> Vec<shapes::IpPermission> {
    let mut grouped: BTreeMap<Traffic, shapes::IpPermission> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| rule.rule.direction == direction) {
        let entry = grouped
            .entry(rule.rule.traffic)
            .or_insert_with(|| permission(rule.rule.traffic));
        add_peer(entry, rule);
    }
    grouped.into_values().collect()
}

/// A permission without sources.
pub(crate) fn permission(traffic: Traffic) -> shapes::IpPermission {
    let (ip_protocol, from_port, to_port) = ports(traffic);
    shapes::IpPermission {
        ip_protocol: Some(ip_protocol),
        from_port,
        to_port,
        ..Default::default()
    }
}

fn add_peer(permission: &mut shapes::IpPermission, rule: &RuleView) {
    let description = Some(rule.description.clone()).filter(|text| !text.is_empty());
    match rule.rule.peer {
        Peer::Cidr(cidr) => permission.ip_ranges.push(shapes::IpRange {
            description,
            cidr_ip: Some(cidr.to_string()),
        }),
        Peer::Group(group) => permission.user_id_group_pairs.push(shapes::UserIdGroupPair {
            description,
            user_id: Some(rule.account.to_string()),
            group_id: Some(group.to_string()),
            group_name: rule.peer_name.clone(),
            ..Default::default()
        }),
    }
}

/// A rule with its id.
pub(crate) fn rule(ctx: &Ctx, view: &RuleView) -> shapes::SecurityGroupRule {
    let (ip_protocol, from_port, to_port) = ports(view.rule.traffic);
    let (cidr, group) = match view.rule.peer {
        Peer::Cidr(cidr) => (Some(cidr.to_string()), None),
        Peer::Group(group) => (None, Some(group.to_string())),
    };
    let owner = view.account.to_string();
    shapes::SecurityGroupRule {
        security_group_rule_id: Some(view.id.to_string()),
        security_group_rule_arn: Some(ctx.arn("security-group-rule", &view.id.to_string())),
        group_id: Some(view.group.to_string()),
        group_owner_id: Some(owner.clone()),
        is_egress: Some(view.rule.direction == Direction::Egress),
        ip_protocol: Some(ip_protocol),
        // The shape of a rule, unlike a permission's, always has ports.
        from_port: from_port.or(Some(-1)),
        to_port: to_port.or(Some(-1)),
        cidr_ipv4: cidr,
        referenced_group_info: group.map(|group_id| shapes::ReferencedSecurityGroup {
            group_id: Some(group_id),
            user_id: Some(owner),
            ..Default::default()
        }),
        description: Some(view.description.clone()).filter(|text| !text.is_empty()),
        tags: shown_tags(&view.tags),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_and_ports() {
        let tcp = |from, to| Some(Traffic::Tcp { from, to });
        for (protocol, from, to, expected) in [
            ("tcp", Some(22), Some(22), tcp(22, 22)),
            ("TCP", Some(0), Some(65_535), tcp(0, 65_535)),
            ("6", Some(80), Some(90), tcp(80, 90)),
            ("tcp", Some(-1), Some(-1), tcp(0, 65_535)),
            ("tcp", Some(90), Some(80), None),
            ("tcp", Some(0), Some(65_536), None),
            ("tcp", Some(22), None, None),
            ("tcp", None, None, None),
            ("udp", Some(53), Some(53), Some(Traffic::Udp { from: 53, to: 53 })),
            ("-1", Some(22), Some(22), Some(Traffic::All)),
            ("all", None, None, Some(Traffic::All)),
            (
                "icmp",
                Some(-1),
                Some(-1),
                Some(Traffic::Icmp {
                    kind: None,
                    code: None,
                }),
            ),
            (
                "icmp",
                Some(8),
                Some(0),
                Some(Traffic::Icmp {
                    kind: Some(8),
                    code: Some(0),
                }),
            ),
            ("icmp", Some(-1), Some(0), None),
            ("icmp", Some(256), Some(0), None),
            ("50", None, None, Some(Traffic::Protocol(50))),
            ("256", None, None, None),
            ("icmpv6", None, None, None),
            ("nonsense", None, None, None),
        ] {
            assert_eq!(
                traffic(protocol, from, to).ok(),
                expected,
                "{protocol} {from:?} {to:?}"
            );
        }
    }

    #[test]
    fn what_is_shown_parses_back() {
        for example in [
            Traffic::All,
            Traffic::Tcp { from: 1, to: 2 },
            Traffic::Udp { from: 0, to: 65_535 },
            Traffic::Icmp {
                kind: None,
                code: None,
            },
            Traffic::Icmp {
                kind: Some(3),
                code: None,
            },
            Traffic::Protocol(50),
        ] {
            let (protocol, from, to) = ports(example);
            assert_eq!(traffic(&protocol, from, to).ok(), Some(example));
        }
    }

    #[test]
    fn blocks_lose_their_host_bits() {
        for (text, expected) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("10.0.0.0", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/+8", None),
            ("::/0", None),
        ] {
            assert_eq!(
                cidr(text).ok().map(|c| c.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
    }
}

//! Permissions of a request as the domain's rules: protocols, ports and peers are read strictly, so that
//! nearly right text never opens more than it says. What can't be a rule here (IPv6, prefix lists, groups of
//! other accounts) is refused where it is added, and not found where it is taken away.

use std::net::Ipv6Addr;

use cumulet_backend::api::security_groups::{NewRule, PeerSpec};
use cumulet_domain::{
    network::{Cidr, Traffic},
    text,
};
use cumulet_wire::ec2::security_groups::{IpPermission, UserIdGroupPair};

use crate::{
    ec2::{
        ctx::{Ctx, id},
        render::security_group::permission,
    },
    fault::Fault,
};

/// One source or destination of a permission.
pub(super) struct Part {
    pub(super) traffic: Traffic,
    pub(super) peer: PeerSpec,
    description: String,
    /// A permission of this peer alone, as it was sent.
    pub(super) sent: IpPermission,
    /// Why no rule can have it.
    refusal: Option<Fault>,
}

/// The rules that permissions add.
///
/// # Errors
/// What can't be a rule here, with its reason.
pub(super) fn new_rules(ctx: &Ctx, permissions: &[IpPermission]) -> Result<Vec<NewRule>, Fault> {
    let rule = |part: Part| match part.refusal {
        Some(refusal) => Err(refusal),
        None => Ok(NewRule {
            traffic: part.traffic,
            peer: part.peer,
            description: part.description,
        }),
    };
    parts(ctx, permissions)?.into_iter().map(rule).collect()
}

/// The parts of permissions, one for each source or destination.
///
/// # Errors
/// What has no form of its kind.
pub(super) fn parts(ctx: &Ctx, permissions: &[IpPermission]) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    for permission in permissions {
        let before = parts.len();
        peers(ctx, permission, &mut parts)?;
        if parts.len() == before {
            return Err(Fault::missing("IpPermissions.N.IpRanges"));
        }
    }
    Ok(parts)
}

fn peers(ctx: &Ctx, of: &IpPermission, parts: &mut Vec<Part>) -> Result<(), Fault> {
    let traffic = traffic(of.ip_protocol.as_deref(), of.from_port, of.to_port)?;
    let of_ipv6 = (traffic == Traffic::Protocol(ICMPV6)).then(|| unsupported("IPv6 is not supported."));
    let mut put = |peer, description: &Option<String>, refusal: Option<Fault>, sent| {
        parts.push(Part {
            traffic,
            peer,
            description: description.clone().unwrap_or_default(),
            sent,
            refusal: of_ipv6.clone().or(refusal),
        });
    };
    for range in &of.ip_ranges {
        let text = required(range.cidr_ip.as_deref(), "CidrIp")?;
        let mut sent = permission(traffic);
        sent.ip_ranges.push(range.clone());
        put(PeerSpec::Cidr(cidr(text)?), &range.description, None, sent);
    }
    for range in &of.ipv6_ranges {
        let text = ipv6_block(required(range.cidr_ipv6.as_deref(), "CidrIpv6")?)?;
        let refusal = unsupported(format!("The range {text} can't be used: IPv6 is not supported."));
        let mut sent = permission(traffic);
        sent.ipv6_ranges.push(range.clone());
        put(foreign(text), &range.description, Some(refusal), sent);
    }
    for list in &of.prefix_list_ids {
        let text = prefix_list(required(list.prefix_list_id.as_deref(), "PrefixListId")?)?;
        let refusal = unsupported(format!("The prefix list {text} can't be used: there are none."));
        let mut sent = permission(traffic);
        sent.prefix_list_ids.push(list.clone());
        put(foreign(text), &list.description, Some(refusal), sent);
    }
    for pair in &of.user_id_group_pairs {
        let (peer, refusal) = group(ctx, pair)?;
        let mut sent = permission(traffic);
        sent.user_id_group_pairs.push(pair.clone());
        put(peer, &pair.description, refusal, sent);
    }
    Ok(())
}

fn required<'a>(value: Option<&'a str>, name: &str) -> Result<&'a str, Fault> {
    value.ok_or_else(|| Fault::missing(name))
}

fn unsupported(message: impl Into<String>) -> Fault {
    Fault::coded("UnsupportedOperation", 400, message)
}

fn foreign(text: &str) -> PeerSpec {
    PeerSpec::Foreign(text.to_owned())
}

/// ICMP of IPv6, which no rule here is about.
const ICMPV6: u8 = 58;

/// What a protocol and its ports let pass. Names may be in capitals, as EC2 takes them; numbers have one
/// spelling, since `06` without its ports would be every port of TCP.
///
/// # Errors
/// Unknown protocols, ports out of range or in the wrong order.
fn traffic(protocol: Option<&str>, from: Option<i32>, to: Option<i32>) -> Result<Traffic, Fault> {
    let invalid = |message: String| Fault::coded("InvalidParameterValue", 400, message);
    let Some(protocol) = protocol else {
        let message = "Invalid value 'null' for protocol. VPC security group rules must specify protocols \
                       explicitly.";
        return Err(invalid(message.into()));
    };
    let number = match protocol.to_ascii_lowercase().as_str() {
        "-1" => return Ok(Traffic::All),
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        "icmpv6" => ICMPV6,
        _ => text::number(protocol).ok_or_else(|| {
            let shown: String = protocol.chars().take(128).collect();
            invalid(format!(
                "Invalid value '{shown}' for IP protocol. Unknown protocol."
            ))
        })?,
    };
    match number {
        1 => icmp(from, to),
        6 => port_range(from, to).map(|(from, to)| Traffic::Tcp { from, to }),
        17 => port_range(from, to).map(|(from, to)| Traffic::Udp { from, to }),
        other => Ok(Traffic::Protocol(other)),
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
    if let (None, Some(code)) = (kind, code) {
        return Err(Fault::invalid(
            "icmpCode",
            &code.to_string(),
            "a code needs a type",
        ));
    }
    Ok(Traffic::Icmp { kind, code })
}

fn malformed(text: &str) -> Fault {
    let shown: String = text.chars().take(128).collect();
    Fault::coded(
        "InvalidParameterValue",
        400,
        format!("CIDR block {shown} is malformed"),
    )
}

/// A block; host bits that are set are cleared, as EC2 does, and the rule shows what is in force.
fn cidr(text: &str) -> Result<Cidr, Fault> {
    Cidr::around(text).ok_or_else(|| malformed(text))
}

fn ipv6_block(text: &str) -> Result<&str, Fault> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let address: Ipv6Addr = address.parse().ok()?;
        let prefix = text::number::<u8>(prefix).filter(|prefix| *prefix <= 128)?;
        Some((address, prefix))
    });
    parsed.map(|_| text).ok_or_else(|| malformed(text))
}

fn prefix_list(text: &str) -> Result<&str, Fault> {
    let digits = text.strip_prefix("pl-").filter(|digits| {
        let hex = digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (1..=17).contains(&digits.len()) && hex
    });
    let reason = "expecting \"pl-...\"";
    digits
        .map(|_| text)
        .ok_or_else(|| Fault::invalid("PrefixListId", text, reason))
}

/// A group on the other side; why no rule can name it.
fn group(ctx: &Ctx, pair: &UserIdGroupPair) -> Result<(PeerSpec, Option<Fault>), Fault> {
    let peer = match (&pair.group_id, &pair.group_name) {
        (Some(text), _) => PeerSpec::Group(id(text)?),
        (None, Some(name)) => PeerSpec::GroupName(name.clone()),
        (None, None) => return Err(Fault::missing("GroupId")),
    };
    if let Some(owner) = pair.user_id.as_deref().filter(|owner| *owner != ctx.account()) {
        let reason = "groups of other accounts can't be named in rules";
        return Ok((foreign(owner), Some(Fault::invalid("UserId", owner, reason))));
    }
    if let Some(peering) = &pair.vpc_peering_connection_id {
        let refusal = unsupported(format!(
            "The connection {peering} can't be used: VPC peering is not supported."
        ));
        return Ok((foreign(peering), Some(refusal)));
    }
    Ok((peer, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ec2::render::security_group::ports;

    #[test]
    fn protocols_and_ports() {
        let tcp = |from, to| Some(Traffic::Tcp { from, to });
        let icmp = |kind, code| Some(Traffic::Icmp { kind, code });
        let (every, ssh) = ((Some(-1), Some(-1)), (Some(22), Some(22)));
        for (protocol, (from, to), expected) in [
            ("tcp", ssh, tcp(22, 22)),
            ("TCP", (Some(0), Some(65_535)), tcp(0, 65_535)),
            ("Tcp", ssh, tcp(22, 22)),
            ("6", (Some(80), Some(90)), tcp(80, 90)),
            ("tcp", every, tcp(0, 65_535)),
            ("tcp", (Some(90), Some(80)), None),
            ("tcp", (Some(0), Some(65_536)), None),
            ("tcp", (Some(22), None), None),
            ("tcp", (None, None), None),
            ("6", (None, None), None),
            (
                "udp",
                (Some(53), Some(53)),
                Some(Traffic::Udp { from: 53, to: 53 }),
            ),
            (
                "17",
                (Some(53), Some(53)),
                Some(Traffic::Udp { from: 53, to: 53 }),
            ),
            ("-1", ssh, Some(Traffic::All)),
            ("icmp", every, icmp(None, None)),
            ("icmp", (Some(8), Some(0)), icmp(Some(8), Some(0))),
            ("1", (Some(8), Some(0)), icmp(Some(8), Some(0))),
            ("icmp", (Some(-1), Some(0)), None),
            ("icmp", (Some(256), Some(0)), None),
            ("50", (None, None), Some(Traffic::Protocol(50))),
            ("0", (None, None), Some(Traffic::Protocol(0))),
            ("255", ssh, Some(Traffic::Protocol(255))),
            ("icmpv6", (None, None), Some(Traffic::Protocol(58))),
            ("58", (None, None), Some(Traffic::Protocol(58))),
        ] {
            let read = traffic(Some(protocol), from, to).ok();
            assert_eq!(read, expected, "{protocol} {from:?} {to:?}");
        }
        // Nearly right, and so nothing at all: none of these may open a port.
        for protocol in [
            "",
            "06",
            "+6",
            "006",
            "017",
            "+17",
            "01",
            "+1",
            "058",
            "+58",
            "-0",
            "00",
            "+0",
            "-01",
            "--1",
            " tcp",
            "tcp ",
            "tcp\n",
            "\ttcp",
            " 6",
            "6 ",
            "6.0",
            "0x6",
            "6e0",
            "256",
            "-2",
            "-6",
            "all",
            "ALL",
            "any",
            "*",
            "tcp,udp",
            "tcpudp",
            "tc",
            "ＴＣＰ",
            "٦",
            "null",
            "nonsense",
        ] {
            for (from, to) in [ssh, every, (None, None)] {
                let refusal = traffic(Some(protocol), from, to).unwrap_err().answer();
                let told = format!("Invalid value '{protocol}' for IP protocol. Unknown protocol.");
                assert_eq!(
                    (refusal.code.as_ref(), refusal.message),
                    ("InvalidParameterValue", told)
                );
            }
        }
        let refusal = traffic(None, Some(22), Some(22)).unwrap_err().answer();
        assert!(
            refusal.message.starts_with("Invalid value 'null' for protocol."),
            "{refusal:?}"
        );
    }

    #[test]
    fn what_is_shown_parses_back() {
        for number in 0..=u8::MAX {
            let shown = match traffic(Some(&number.to_string()), Some(-1), Some(-1)).unwrap() {
                traffic @ (Traffic::Tcp { .. } | Traffic::Udp { .. } | Traffic::Icmp { .. }) => traffic,
                traffic => {
                    assert_eq!(traffic, Traffic::Protocol(number));
                    traffic
                }
            };
            let (protocol, from, to) = ports(shown);
            assert_eq!(traffic(Some(&protocol), from, to).ok(), Some(shown));
        }
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
        ] {
            let (protocol, from, to) = ports(example);
            assert_eq!(traffic(Some(&protocol), from, to).ok(), Some(example));
        }
    }

    #[test]
    fn blocks_lose_their_host_bits_and_have_one_spelling() {
        for (text, expected) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("10.0.0.0", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/08", None),
            ("10.0.0.0/-0", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/8 ", None),
            (" 10.0.0.0/8", None),
            ("010.0.0.0/8", None),
            ("10.0.0/8", None),
            ("10/8", None),
            ("0x0a.0.0.0/8", None),
            ("10.0.0.0/8/8", None),
            ("10.0.0.0/255.0.0.0", None),
            ("::/0", None),
            ("0", None),
            ("", None),
        ] {
            let read = cidr(text);
            assert_eq!(
                read.as_ref().ok().map(ToString::to_string).as_deref(),
                expected,
                "{text}"
            );
            if let Err(refusal) = read {
                let told = format!("CIDR block {text} is malformed");
                assert_eq!(refusal.answer().message, told);
            }
        }
        for (text, fine) in [
            ("::/0", true),
            ("2001:db8::/32", true),
            ("::ffff:10.0.0.1/128", true),
            ("::/129", false),
            ("::/00", false),
            ("::", false),
            ("10.0.0.0/8", false),
            ("nonsense", false),
        ] {
            assert_eq!(ipv6_block(text).is_ok(), fine, "{text}");
        }
        for (text, fine) in [
            ("pl-63a5400a", true),
            ("pl-1", true),
            ("pl-", false),
            ("pl-x", false),
            ("sg-1", false),
        ] {
            assert_eq!(prefix_list(text).is_ok(), fine, "{text}");
        }
    }
}

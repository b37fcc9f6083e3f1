//! Security group rules as EC2 shows them: as permissions, and one by one.

use std::collections::BTreeMap;

use cumulet_backend::api::security_groups::RuleView;
use cumulet_domain::network::{Direction, Peer, Traffic};
use cumulet_wire::ec2::security_groups as shapes;

use crate::ec2::ctx::{Ctx, shown_tags};

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
            // As EC2 shows groups of a VPC, without its name.
            group_id: Some(group.to_string()),
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

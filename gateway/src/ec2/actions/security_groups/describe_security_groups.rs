//! DescribeSecurityGroups: groups with their rules as permissions.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    security_groups::{self, GroupQuery, GroupView, RuleView},
};
use cumulet_domain::{
    account::AccountId,
    network::{Direction, Peer},
};
use cumulet_wire::ec2::security_groups::{
    DescribeSecurityGroups, DescribeSecurityGroupsRequest, DescribeSecurityGroupsResult, SecurityGroup,
};

use crate::{
    ec2::{
        ctx::{Ctx, id, ids, tags_if_any},
        describe::{Describe, paged},
        filter::{Filters, Sink, Table, never, on, shown, some, text},
        render::security_group::{permissions, ports},
    },
    fault::Fault,
};

/// Says what `read` finds in the rules of one direction.
fn each(row: &GroupView, direction: Direction, sink: &mut Sink<'_>, read: fn(&RuleView, &mut Sink<'_>)) {
    row.rules
        .iter()
        .filter(|rule| rule.rule.direction == direction)
        .for_each(|rule| read(rule, sink));
}

fn cidr(rule: &RuleView, sink: &mut Sink<'_>) {
    if let Peer::Cidr(cidr) = rule.rule.peer {
        shown(cidr, sink);
    }
}

fn group_id(rule: &RuleView, sink: &mut Sink<'_>) {
    if let Peer::Group(group) = rule.rule.peer {
        shown(group, sink);
    }
}

fn group_name(rule: &RuleView, sink: &mut Sink<'_>) {
    text(&rule.peer_name, sink);
}

fn user_id(rule: &RuleView, sink: &mut Sink<'_>) {
    if let Peer::Group(_) = rule.rule.peer {
        shown(rule.account, sink);
    }
}

fn protocol(rule: &RuleView, sink: &mut Sink<'_>) {
    sink(&ports(rule.rule.traffic).0);
}

fn from_port(rule: &RuleView, sink: &mut Sink<'_>) {
    some(ports(rule.rule.traffic).1, sink);
}

fn to_port(rule: &RuleView, sink: &mut Sink<'_>) {
    some(ports(rule.rule.traffic).2, sink);
}

#[async_trait]
impl Describe for DescribeSecurityGroups {
    type Row = GroupView;
    type Key = i64;
    const FILTERS: Table<GroupView> = Table {
        defs: &[
            on(&["description"], |row: &GroupView, sink| {
                sink(&row.row.description)
            }),
            on(&["group-id"], |row, sink| shown(row.id(), sink)),
            on(&["group-name"], |row, sink| sink(&row.row.name)),
            on(&["owner-id"], |row, sink| {
                shown(AccountId::from_db(row.row.account), sink)
            }),
            on(&["vpc-id"], |row, sink| shown(row.vpc(), sink)),
            on(&["ip-permission.cidr"], |row, sink| {
                each(row, Direction::Ingress, sink, cidr)
            }),
            on(&["ip-permission.from-port"], |row, sink| {
                each(row, Direction::Ingress, sink, from_port)
            }),
            on(&["ip-permission.group-id"], |row, sink| {
                each(row, Direction::Ingress, sink, group_id)
            }),
            on(&["ip-permission.group-name"], |row, sink| {
                each(row, Direction::Ingress, sink, group_name)
            }),
            on(&["ip-permission.protocol"], |row, sink| {
                each(row, Direction::Ingress, sink, protocol)
            }),
            on(&["ip-permission.to-port"], |row, sink| {
                each(row, Direction::Ingress, sink, to_port)
            }),
            on(&["ip-permission.user-id"], |row, sink| {
                each(row, Direction::Ingress, sink, user_id)
            }),
            on(&["egress.ip-permission.cidr"], |row, sink| {
                each(row, Direction::Egress, sink, cidr)
            }),
            on(&["egress.ip-permission.from-port"], |row, sink| {
                each(row, Direction::Egress, sink, from_port)
            }),
            on(&["egress.ip-permission.group-id"], |row, sink| {
                each(row, Direction::Egress, sink, group_id)
            }),
            on(&["egress.ip-permission.group-name"], |row, sink| {
                each(row, Direction::Egress, sink, group_name)
            }),
            on(&["egress.ip-permission.protocol"], |row, sink| {
                each(row, Direction::Egress, sink, protocol)
            }),
            on(&["egress.ip-permission.to-port"], |row, sink| {
                each(row, Direction::Egress, sink, to_port)
            }),
            on(&["egress.ip-permission.user-id"], |row, sink| {
                each(row, Direction::Egress, sink, user_id)
            }),
            never(&[
                "egress.ip-permission.ipv6-cidr",
                "egress.ip-permission.prefix-list-id",
                "ip-permission.ipv6-cidr",
                "ip-permission.prefix-list-id",
            ]),
        ],
        tags: Some(|row| &row.tags),
    };

    paged!(group_ids, group_names);

    async fn load(
        ctx: &Ctx,
        input: &DescribeSecurityGroupsRequest,
        filters: &Filters<GroupView>,
        page: PageRequest,
    ) -> Result<Page<GroupView>, Fault> {
        let vpcs = filters.literals("vpc-id").unwrap_or_default();
        let query = GroupQuery {
            ids: ids(&input.group_ids)?,
            names: input.group_names.clone(),
            vpcs: vpcs.into_iter().filter_map(|text| id(text).ok()).collect(),
        };
        Ok(security_groups::describe(&ctx.cloud, &ctx.who, &query, page).await?)
    }

    fn key(row: &GroupView) -> i64 {
        row.row.id
    }

    fn render(
        ctx: &Ctx,
        _: &DescribeSecurityGroupsRequest,
        rows: Vec<GroupView>,
        next: Option<String>,
    ) -> DescribeSecurityGroupsResult {
        DescribeSecurityGroupsResult {
            next_token: next,
            security_groups: rows.iter().map(|view| group(ctx, view)).collect(),
        }
    }
}

fn group(ctx: &Ctx, view: &GroupView) -> SecurityGroup {
    let group_id = view.id().to_string();
    SecurityGroup {
        security_group_arn: Some(ctx.arn("security-group", &group_id)),
        group_id: Some(group_id),
        ip_permissions: permissions(&view.rules, Direction::Ingress),
        ip_permissions_egress: permissions(&view.rules, Direction::Egress),
        tags: tags_if_any(&view.tags),
        vpc_id: Some(view.vpc().to_string()),
        owner_id: Some(AccountId::from_db(view.row.account).to_string()),
        group_name: Some(view.row.name.clone()),
        description: Some(view.row.description.clone()),
    }
}

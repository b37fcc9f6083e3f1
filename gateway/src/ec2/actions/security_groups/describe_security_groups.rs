//! DescribeSecurityGroups: groups with their rules as permissions.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    security_groups::{self, GroupQuery, GroupView, RuleView},
};
use cumulet_domain::network::Direction;
use cumulet_wire::{
    ec2::security_groups::{DescribeSecurityGroups, DescribeSecurityGroupsRequest, SecurityGroup},
    listing::Hear,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, tags_if_any},
        describe::Describe,
        filter::{Def, Filters, Keyed, on},
        render::security_group::permissions,
    },
    fault::Fault,
};

/// A group as it is shown, with its rules: in permissions their other sides have no names.
type Row = Keyed<i64, SecurityGroup, Vec<RuleView>>;

/// Says the names of the groups on the other sides of the rules of one direction.
fn peers(row: &Row, direction: Direction, hear: &mut Hear<'_>) {
    let rules = row.more.iter().filter(|rule| rule.rule.direction == direction);
    rules.filter_map(|rule| rule.peer_name.as_deref()).for_each(hear);
}

#[async_trait]
impl Describe for DescribeSecurityGroups {
    type Row = Row;
    const COMPUTED: &'static [Def<Row>] = &[
        on("egress.ip-permission.group-name", |row, hear| {
            peers(row, Direction::Egress, hear);
        }),
        on("ip-permission.group-name", |row, hear| {
            peers(row, Direction::Ingress, hear);
        }),
    ];

    async fn load(
        ctx: &Ctx,
        input: &DescribeSecurityGroupsRequest,
        filters: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = GroupQuery {
            ids: ids(&input.group_ids)?,
            names: input.group_names.clone(),
            vpcs: filters.ids("vpc-id"),
        };
        let page = security_groups::describe(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(page.map(|view: GroupView| Row {
            key: view.row.id.to_db(),
            shown: group(ctx, &view),
            more: view.rules,
        }))
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
        owner_id: Some(view.row.account.0.to_string()),
        group_name: Some(view.row.name.clone()),
        description: Some(view.row.description.clone()),
    }
}

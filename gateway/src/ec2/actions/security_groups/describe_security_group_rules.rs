//! DescribeSecurityGroupRules: rules one by one, with their ids.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    security_groups::{self, RuleQuery, RuleView},
};
use cumulet_wire::ec2::security_groups::{
    DescribeSecurityGroupRules, DescribeSecurityGroupRulesRequest, DescribeSecurityGroupRulesResult,
};

use crate::{
    ec2::{
        ctx::{Ctx, id, ids},
        describe::{Describe, paged},
        filter::{Filters, Table, on, shown},
        render::security_group::rule,
    },
    fault::Fault,
};

#[async_trait]
impl Describe for DescribeSecurityGroupRules {
    type Row = RuleView;
    type Key = i64;
    const FILTERS: Table<RuleView> = Table {
        defs: &[
            on(&["group-id"], |row: &RuleView, sink| shown(row.group, sink)),
            on(&["security-group-rule-id"], |row, sink| shown(row.id, sink)),
        ],
        tags: Some(|row| &row.tags),
    };

    paged!(security_group_rule_ids);

    async fn load(
        ctx: &Ctx,
        input: &DescribeSecurityGroupRulesRequest,
        filters: &Filters<RuleView>,
        page: PageRequest,
    ) -> Result<Page<RuleView>, Fault> {
        let groups = filters.literals("group-id").unwrap_or_default();
        let query = RuleQuery {
            ids: ids(&input.security_group_rule_ids)?,
            groups: groups.into_iter().filter_map(|text| id(text).ok()).collect(),
        };
        Ok(security_groups::describe_rules(&ctx.cloud, &ctx.who, &query, page).await?)
    }

    fn key(row: &RuleView) -> i64 {
        row.id.to_db()
    }

    fn render(
        ctx: &Ctx,
        _: &DescribeSecurityGroupRulesRequest,
        rows: Vec<RuleView>,
        next: Option<String>,
    ) -> DescribeSecurityGroupRulesResult {
        DescribeSecurityGroupRulesResult {
            security_group_rules: rows.iter().map(|view| rule(ctx, view)).collect(),
            next_token: next,
        }
    }
}

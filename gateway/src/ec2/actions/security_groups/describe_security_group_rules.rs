//! DescribeSecurityGroupRules: rules one by one, with their ids.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    security_groups::{self, RuleQuery, RuleView},
};
use cumulet_wire::ec2::security_groups::{
    DescribeSecurityGroupRules, DescribeSecurityGroupRulesRequest, SecurityGroupRule,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids},
        describe::Describe,
        filter::{Filters, Keyed},
        render::security_group::rule,
    },
    fault::Fault,
};

type Row = Keyed<i64, SecurityGroupRule>;

#[async_trait]
impl Describe for DescribeSecurityGroupRules {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeSecurityGroupRulesRequest,
        filters: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = RuleQuery {
            ids: ids(&input.security_group_rule_ids)?,
            groups: filters.ids("group-id"),
        };
        let page = security_groups::describe_rules(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(page.map(|view: RuleView| Row::new(view.id.to_db(), rule(ctx, &view))))
    }
}

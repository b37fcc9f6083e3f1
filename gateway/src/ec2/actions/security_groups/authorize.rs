//! AuthorizeSecurityGroupIngress and -Egress: add rules, all or none.

use async_trait::async_trait;
use cumulet_backend::api::security_groups::{self, GroupName};
use cumulet_domain::network::Direction;
use cumulet_wire::ec2::{
    security_groups::{
        AuthorizeSecurityGroupEgress, AuthorizeSecurityGroupEgressRequest,
        AuthorizeSecurityGroupEgressResult, AuthorizeSecurityGroupIngress,
        AuthorizeSecurityGroupIngressRequest, AuthorizeSecurityGroupIngressResult, IpPermission,
        SecurityGroupRule,
    },
    shared::TagSpecification,
};

use super::{
    permission::new_rules,
    which::{asked, group},
};
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id, tags_for},
        render::security_group::rule,
    },
    fault::Fault,
};

#[async_trait]
impl Action for AuthorizeSecurityGroupIngress {
    async fn run(
        ctx: &Ctx,
        input: AuthorizeSecurityGroupIngressRequest,
    ) -> Result<AuthorizeSecurityGroupIngressResult, Fault> {
        let which = group(input.group_id.as_deref(), input.group_name)?;
        let permissions = asked!(input);
        let made = add(
            ctx,
            &which,
            Direction::Ingress,
            &permissions,
            input.tag_specifications,
        )
        .await?;
        Ok(AuthorizeSecurityGroupIngressResult {
            r#return: Some(true),
            security_group_rules: made,
        })
    }
}

#[async_trait]
impl Action for AuthorizeSecurityGroupEgress {
    async fn run(
        ctx: &Ctx,
        input: AuthorizeSecurityGroupEgressRequest,
    ) -> Result<AuthorizeSecurityGroupEgressResult, Fault> {
        let which = GroupName::Id(id(&input.group_id)?);
        let permissions = asked!(input);
        let made = add(
            ctx,
            &which,
            Direction::Egress,
            &permissions,
            input.tag_specifications,
        )
        .await?;
        Ok(AuthorizeSecurityGroupEgressResult {
            r#return: Some(true),
            security_group_rules: made,
        })
    }
}

async fn add(
    ctx: &Ctx,
    which: &GroupName,
    direction: Direction,
    permissions: &[IpPermission],
    tags: Vec<TagSpecification>,
) -> Result<Vec<SecurityGroupRule>, Fault> {
    let tags = tags_for("security-group-rule", tags)?;
    let rules = new_rules(ctx, permissions)?;
    if rules.is_empty() {
        return Err(Fault::missing("IpPermissions"));
    }
    let made = security_groups::authorize(&ctx.cloud, &ctx.who, which, direction, rules, tags).await?;
    Ok(made.iter().map(|view| rule(ctx, view)).collect())
}

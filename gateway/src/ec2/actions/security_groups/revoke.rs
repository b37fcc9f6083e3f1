//! RevokeSecurityGroupIngress and -Egress: remove rules by their ids or by what they say, all or none.

use async_trait::async_trait;
use cumulet_backend::api::security_groups::{self, GroupName, Revoke, RuleView};
use cumulet_domain::network::{Direction, Peer};
use cumulet_wire::ec2::security_groups::{
    IpPermission, RevokeSecurityGroupEgress, RevokeSecurityGroupEgressRequest,
    RevokeSecurityGroupEgressResult, RevokeSecurityGroupIngress, RevokeSecurityGroupIngressRequest,
    RevokeSecurityGroupIngressResult, RevokedSecurityGroupRule,
};

use super::which::opening;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, ids},
        render::security_group::{ports, rules},
    },
    fault::Fault,
};

#[async_trait]
impl Action for RevokeSecurityGroupIngress {
    async fn run(
        ctx: &Ctx,
        input: RevokeSecurityGroupIngressRequest,
    ) -> Result<RevokeSecurityGroupIngressResult, Fault> {
        let (which, permissions) = opening!(input, input.group_name);
        let what = what(ctx, &input.security_group_rule_ids, &permissions)?;
        Ok(RevokeSecurityGroupIngressResult {
            r#return: Some(true),
            revoked_security_group_rules: remove(ctx, &which, Direction::Ingress, what).await?,
            ..Default::default()
        })
    }
}

#[async_trait]
impl Action for RevokeSecurityGroupEgress {
    async fn run(
        ctx: &Ctx,
        input: RevokeSecurityGroupEgressRequest,
    ) -> Result<RevokeSecurityGroupEgressResult, Fault> {
        let (which, permissions) = opening!(input, None);
        let what = what(ctx, &input.security_group_rule_ids, &permissions)?;
        Ok(RevokeSecurityGroupEgressResult {
            r#return: Some(true),
            revoked_security_group_rules: remove(ctx, &which, Direction::Egress, what).await?,
            ..Default::default()
        })
    }
}

fn what(ctx: &Ctx, rule_ids: &[String], permissions: &[IpPermission]) -> Result<Revoke, Fault> {
    match (rule_ids.is_empty(), permissions.is_empty()) {
        (false, true) => Ok(Revoke::Ids(ids(rule_ids)?)),
        (true, false) => {
            let rules = rules(ctx, permissions)?;
            Ok(Revoke::Rules(
                rules.into_iter().map(|rule| (rule.traffic, rule.peer)).collect(),
            ))
        }
        (false, false) => Err(Fault::combination(
            "Either SecurityGroupRuleId or IpPermissions may be given, not both",
        )),
        (true, true) => Err(Fault::missing("IpPermissions")),
    }
}

async fn remove(
    ctx: &Ctx,
    which: &GroupName,
    direction: Direction,
    what: Revoke,
) -> Result<Vec<RevokedSecurityGroupRule>, Fault> {
    let gone = security_groups::revoke(&ctx.cloud, &ctx.who, which, direction, what).await?;
    Ok(gone.into_iter().map(revoked).collect())
}

fn revoked(view: RuleView) -> RevokedSecurityGroupRule {
    let (ip_protocol, from_port, to_port) = ports(view.rule.traffic);
    let (cidr, group) = match view.rule.peer {
        Peer::Cidr(cidr) => (Some(cidr.to_string()), None),
        Peer::Group(group) => (None, Some(group.to_string())),
    };
    RevokedSecurityGroupRule {
        security_group_rule_id: Some(view.id.to_string()),
        group_id: Some(view.group.to_string()),
        is_egress: Some(view.rule.direction == Direction::Egress),
        ip_protocol: Some(ip_protocol),
        from_port: from_port.or(Some(-1)),
        to_port: to_port.or(Some(-1)),
        cidr_ipv4: cidr,
        referenced_group_id: group,
        description: Some(view.description).filter(|text| !text.is_empty()),
        ..Default::default()
    }
}

//! RevokeSecurityGroupIngress and -Egress: remove rules by their ids or by what they say, all or none; in the
//! default VPC those that are not there are told, and the others removed.

use async_trait::async_trait;
use cumulet_backend::api::security_groups::{self, GroupName, Revoke, RuleView};
use cumulet_domain::network::{Direction, Peer};
use cumulet_wire::ec2::security_groups::{
    IpPermission, RevokeSecurityGroupEgress, RevokeSecurityGroupEgressRequest,
    RevokeSecurityGroupEgressResult, RevokeSecurityGroupIngress, RevokeSecurityGroupIngressRequest,
    RevokeSecurityGroupIngressResult, RevokedSecurityGroupRule,
};

use super::{
    permission::{Part, parts},
    which::{asked, group},
};
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id, ids},
        render::security_group::ports,
    },
    fault::Fault,
};

#[async_trait]
impl Action for RevokeSecurityGroupIngress {
    async fn run(
        ctx: &Ctx,
        input: RevokeSecurityGroupIngressRequest,
    ) -> Result<RevokeSecurityGroupIngressResult, Fault> {
        let which = group(input.group_id.as_deref(), input.group_name)?;
        let permissions = asked!(input);
        let named = (input.security_group_rule_ids, permissions);
        let (rules, unknown) = remove(ctx, &which, Direction::Ingress, named).await?;
        Ok(RevokeSecurityGroupIngressResult {
            r#return: Some(true),
            revoked_security_group_rules: rules,
            unknown_ip_permissions: unknown,
        })
    }
}

#[async_trait]
impl Action for RevokeSecurityGroupEgress {
    async fn run(
        ctx: &Ctx,
        input: RevokeSecurityGroupEgressRequest,
    ) -> Result<RevokeSecurityGroupEgressResult, Fault> {
        let which = GroupName::Id(id(&input.group_id)?);
        let permissions = asked!(input);
        let named = (input.security_group_rule_ids, permissions);
        let (rules, unknown) = remove(ctx, &which, Direction::Egress, named).await?;
        Ok(RevokeSecurityGroupEgressResult {
            r#return: Some(true),
            revoked_security_group_rules: rules,
            unknown_ip_permissions: unknown,
        })
    }
}

async fn remove(
    ctx: &Ctx,
    which: &GroupName,
    direction: Direction,
    (rule_ids, permissions): (Vec<String>, Vec<IpPermission>),
) -> Result<(Vec<RevokedSecurityGroupRule>, Vec<IpPermission>), Fault> {
    let mut parts: Vec<Part> = parts(ctx, &permissions)?;
    let what = match (rule_ids.is_empty(), parts.is_empty()) {
        (false, true) => Revoke::Ids(ids(&rule_ids)?),
        (true, false) => Revoke::Rules(parts.iter().map(|p| (p.traffic, p.peer.clone())).collect()),
        (false, false) => {
            return Err(Fault::combination(
                "Either SecurityGroupRuleId or IpPermissions may be given, not both",
            ));
        }
        (true, true) => return Err(Fault::missing("IpPermissions")),
    };
    let gone = security_groups::revoke(&ctx.cloud, &ctx.who, which, direction, what).await?;
    let unknown = gone.unknown.into_iter();
    let unknown = unknown
        .map(|place| std::mem::take(&mut parts[place].sent))
        .collect();
    Ok((gone.rules.into_iter().map(revoked).collect(), unknown))
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

//! CreateSecurityGroup: a group that lets everything out and nothing in.

use async_trait::async_trait;
use cumulet_backend::api::security_groups::{self, NewGroup};
use cumulet_wire::ec2::security_groups::{
    CreateSecurityGroup, CreateSecurityGroupRequest, CreateSecurityGroupResult,
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id, shown_tags, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CreateSecurityGroup {
    async fn run(ctx: &Ctx, input: CreateSecurityGroupRequest) -> Result<CreateSecurityGroupResult, Fault> {
        let new = NewGroup {
            name: input.group_name,
            description: input.description,
            vpc: input.vpc_id.as_deref().map(id).transpose()?,
            tags: tags_for("security-group", input.tag_specifications)?,
        };
        let made = security_groups::create(&ctx.cloud, &ctx.who, new).await?;
        let group_id = made.id().to_string();
        Ok(CreateSecurityGroupResult {
            tags: shown_tags(&made.tags),
            security_group_arn: Some(ctx.arn("security-group", &group_id)),
            group_id: Some(group_id),
        })
    }
}

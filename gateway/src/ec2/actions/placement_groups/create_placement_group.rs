//! CreatePlacementGroup: how instances that are launched into the group are spread over hosts.

use async_trait::async_trait;
use cumulet_backend::api::placement_groups::{self, NewGroup};
use cumulet_wire::ec2::placement_groups::{
    CreatePlacementGroup, CreatePlacementGroupRequest, CreatePlacementGroupResult,
};

use super::describe_placement_groups::shown;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CreatePlacementGroup {
    async fn run(ctx: &Ctx, input: CreatePlacementGroupRequest) -> Result<CreatePlacementGroupResult, Fault> {
        let new = NewGroup {
            name: input.group_name.ok_or_else(|| Fault::missing("GroupName"))?,
            strategy: input.strategy.unwrap_or_default(),
            partition_count: input.partition_count.map(i64::from),
            tags: tags_for("placement-group", input.tag_specifications)?,
        };
        let made = placement_groups::create(&ctx.cloud, &ctx.who, new).await?;
        Ok(CreatePlacementGroupResult {
            placement_group: Some(shown(ctx, made)),
        })
    }
}

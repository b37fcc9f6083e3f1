//! DeletePlacementGroup: refused while instances are in the group.

use async_trait::async_trait;
use cumulet_backend::api::placement_groups;
use cumulet_wire::{
    Done,
    ec2::placement_groups::{DeletePlacementGroup, DeletePlacementGroupRequest},
};

use crate::{
    ec2::{action::Action, ctx::Ctx},
    fault::Fault,
};

#[async_trait]
impl Action for DeletePlacementGroup {
    async fn run(ctx: &Ctx, input: DeletePlacementGroupRequest) -> Result<Done, Fault> {
        placement_groups::delete(&ctx.cloud, &ctx.who, &input.group_name).await?;
        Ok(Done)
    }
}

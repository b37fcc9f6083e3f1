//! ModifyVolumeAttribute: whether a volume's I/O is enabled again by itself, which is all that there is.

use async_trait::async_trait;
use cumulet_backend::api::volumes;
use cumulet_wire::{
    Done,
    ec2::volumes::{ModifyVolumeAttribute, ModifyVolumeAttributeRequest},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for ModifyVolumeAttribute {
    async fn run(ctx: &Ctx, input: ModifyVolumeAttributeRequest) -> Result<Done, Fault> {
        let id = id(&input.volume_id)?;
        let enabled = input.auto_enable_io.and_then(|switch| switch.value);
        let enabled = enabled.ok_or_else(|| Fault::missing("AutoEnableIO.Value"))?;
        volumes::set_auto_enable_io(&ctx.cloud, &ctx.who, id, enabled).await?;
        Ok(Done)
    }
}

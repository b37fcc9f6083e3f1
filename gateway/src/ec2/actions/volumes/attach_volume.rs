//! AttachVolume.

use async_trait::async_trait;
use cumulet_backend::api::volumes;
use cumulet_wire::ec2::volumes::{AttachVolume, AttachVolumeRequest, VolumeAttachment};

use super::describe_volumes::attachment;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for AttachVolume {
    async fn run(ctx: &Ctx, input: AttachVolumeRequest) -> Result<VolumeAttachment, Fault> {
        let volume = id(&input.volume_id)?;
        let instance = id(&input.instance_id)?;
        let device = input.device;
        let made = volumes::attach(&ctx.cloud, &ctx.who, volume, instance, &device).await?;
        Ok(attachment(&made))
    }
}

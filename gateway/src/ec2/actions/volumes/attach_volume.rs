//! AttachVolume.

use async_trait::async_trait;
use cumulet_backend::api::volumes;
use cumulet_wire::ec2::volumes::{AttachVolume, AttachVolumeRequest, VolumeAttachment};

use super::describe_volumes::attachment;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, required_id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for AttachVolume {
    async fn run(ctx: &Ctx, input: AttachVolumeRequest) -> Result<VolumeAttachment, Fault> {
        let volume = required_id(input.volume_id.as_deref(), "VolumeId")?;
        let instance = required_id(input.instance_id.as_deref(), "InstanceId")?;
        let device = input.device.ok_or_else(|| Fault::missing("Device"))?;
        let made = volumes::attach(&ctx.cloud, &ctx.who, volume, instance, &device).await?;
        Ok(attachment(&made))
    }
}

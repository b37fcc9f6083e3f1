//! DetachVolume: of the instance that is named, or of whichever has it.

use async_trait::async_trait;
use cumulet_backend::api::volumes::{self, Detach};
use cumulet_wire::ec2::volumes::{DetachVolume, DetachVolumeRequest, VolumeAttachment};

use super::describe_volumes::attachment;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for DetachVolume {
    async fn run(ctx: &Ctx, input: DetachVolumeRequest) -> Result<VolumeAttachment, Fault> {
        let what = Detach {
            volume: id(&input.volume_id)?,
            instance: input.instance_id.as_deref().map(id).transpose()?,
            device: input.device,
        };
        let ending = volumes::detach(&ctx.cloud, &ctx.who, what).await?;
        Ok(attachment(&ending))
    }
}

//! DeleteVolume: refused while the volume is attached.

use async_trait::async_trait;
use cumulet_backend::api::volumes;
use cumulet_wire::{
    Done,
    ec2::volumes::{DeleteVolume, DeleteVolumeRequest},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for DeleteVolume {
    async fn run(ctx: &Ctx, input: DeleteVolumeRequest) -> Result<Done, Fault> {
        let id = id(&input.volume_id)?;
        volumes::delete(&ctx.cloud, &ctx.who, id).await?;
        Ok(Done)
    }
}

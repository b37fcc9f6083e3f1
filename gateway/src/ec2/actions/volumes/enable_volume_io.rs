//! EnableVolumeIO: a volume's I/O is enabled, so that this finds it so.

use async_trait::async_trait;
use cumulet_backend::api::volumes;
use cumulet_wire::{
    Done,
    ec2::volumes::{EnableVolumeIO, EnableVolumeIORequest},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for EnableVolumeIO {
    async fn run(ctx: &Ctx, input: EnableVolumeIORequest) -> Result<Done, Fault> {
        volumes::enable_io(&ctx.cloud, &ctx.who, id(&input.volume_id)?).await?;
        Ok(Done)
    }
}

//! DisableImage and EnableImage.

use async_trait::async_trait;
use cumulet_backend::api::images;
use cumulet_wire::ec2::images::{
    DisableImage, DisableImageRequest, DisableImageResult, EnableImage, EnableImageRequest, EnableImageResult,
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for DisableImage {
    async fn run(ctx: &Ctx, input: DisableImageRequest) -> Result<DisableImageResult, Fault> {
        let image = id(&input.image_id)?;
        images::disable(&ctx.cloud, &ctx.who, image).await?;
        Ok(DisableImageResult { r#return: Some(true) })
    }
}

#[async_trait]
impl Action for EnableImage {
    async fn run(ctx: &Ctx, input: EnableImageRequest) -> Result<EnableImageResult, Fault> {
        let image = id(&input.image_id)?;
        images::enable(&ctx.cloud, &ctx.who, image).await?;
        Ok(EnableImageResult { r#return: Some(true) })
    }
}

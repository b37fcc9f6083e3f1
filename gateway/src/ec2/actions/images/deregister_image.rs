//! DeregisterImage: no new launches from it; instances that were made from it keep running.

use async_trait::async_trait;
use cumulet_backend::api::images;
use cumulet_wire::ec2::images::{DeregisterImage, DeregisterImageRequest, DeregisterImageResult};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for DeregisterImage {
    async fn run(ctx: &Ctx, input: DeregisterImageRequest) -> Result<DeregisterImageResult, Fault> {
        let image = id(&input.image_id)?;
        images::deregister(&ctx.cloud, &ctx.who, image).await?;
        Ok(DeregisterImageResult {
            r#return: Some(true),
            ..Default::default()
        })
    }
}

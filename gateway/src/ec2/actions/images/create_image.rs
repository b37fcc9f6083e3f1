//! CreateImage: of an instance that is running or stopped.

use async_trait::async_trait;
use cumulet_backend::api::images::{self, CreatedImage};
use cumulet_wire::ec2::images::{CreateImage, CreateImageRequest, CreateImageResult};

use super::{disks::asked, image_and_snapshot_tags};
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CreateImage {
    async fn run(ctx: &Ctx, input: CreateImageRequest) -> Result<CreateImageResult, Fault> {
        let (tags, snapshot_tags) = image_and_snapshot_tags(input.tag_specifications)?;
        let new = CreatedImage {
            instance: id(&input.instance_id)?,
            name: input.name,
            description: input.description.unwrap_or_default(),
            no_reboot: input.no_reboot == Some(true),
            disks: asked(input.block_device_mappings)?,
            tags,
            snapshot_tags,
        };
        let made = images::create(&ctx.cloud, &ctx.who, new).await?;
        Ok(CreateImageResult {
            image_id: Some(made.to_string()),
        })
    }
}

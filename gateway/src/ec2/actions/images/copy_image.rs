//! CopyImage: within the region, which is the cloud's only one.

use async_trait::async_trait;
use cumulet_backend::api::images::{self, ImageCopy};
use cumulet_domain::volume::EncryptionAsked;
use cumulet_wire::ec2::images::{CopyImage, CopyImageRequest, CopyImageResult};

use super::image_and_snapshot_tags;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CopyImage {
    async fn run(ctx: &Ctx, input: CopyImageRequest) -> Result<CopyImageResult, Fault> {
        let own = ctx.region();
        if input.source_region != own {
            let reason = format!("this cloud has the region {own} alone");
            return Err(Fault::invalid("SourceRegion", &input.source_region, reason));
        }
        let (tags, snapshot_tags) = image_and_snapshot_tags(input.tag_specifications)?;
        let what = ImageCopy {
            source: id(&input.source_image_id)?,
            name: input.name,
            description: input.description.unwrap_or_default(),
            copy_tags: input.copy_image_tags == Some(true),
            encryption: EncryptionAsked {
                encrypted: input.encrypted,
                key: input.kms_key_id,
            },
            tags,
            snapshot_tags,
            client_token: ctx.token.clone(),
        };
        let made = images::copy(&ctx.cloud, &ctx.who, what).await?;
        Ok(CopyImageResult {
            image_id: Some(made.to_string()),
        })
    }
}

//! EnableImageDeprecation and DisableImageDeprecation.

use async_trait::async_trait;
use cumulet_backend::api::images;
use cumulet_domain::time::Timestamp;
use cumulet_wire::ec2::images::{
    DisableImageDeprecation, DisableImageDeprecationRequest, DisableImageDeprecationResult,
    EnableImageDeprecation, EnableImageDeprecationRequest, EnableImageDeprecationResult,
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for EnableImageDeprecation {
    async fn run(
        ctx: &Ctx,
        input: EnableImageDeprecationRequest,
    ) -> Result<EnableImageDeprecationResult, Fault> {
        let image = id(&input.image_id)?;
        let at = input.deprecate_at.ok_or_else(|| Fault::missing("DeprecateAt"))?;
        images::deprecate(&ctx.cloud, &ctx.who, image, Timestamp(at.0)).await?;
        Ok(EnableImageDeprecationResult { r#return: Some(true) })
    }
}

#[async_trait]
impl Action for DisableImageDeprecation {
    async fn run(
        ctx: &Ctx,
        input: DisableImageDeprecationRequest,
    ) -> Result<DisableImageDeprecationResult, Fault> {
        let image = id(&input.image_id)?;
        images::undeprecate(&ctx.cloud, &ctx.who, image).await?;
        Ok(DisableImageDeprecationResult { r#return: Some(true) })
    }
}

//! EnableImageDeregistrationProtection and DisableImageDeregistrationProtection, which answer what is so afterwards.

use async_trait::async_trait;
use cumulet_backend::api::images;
use cumulet_domain::image::DeregistrationProtection;
use cumulet_wire::ec2::images::{
    DisableImageDeregistrationProtection, DisableImageDeregistrationProtectionRequest,
    DisableImageDeregistrationProtectionResult, EnableImageDeregistrationProtection,
    EnableImageDeregistrationProtectionRequest, EnableImageDeregistrationProtectionResult,
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

/// What an image shows that may be deregistered.
pub(super) const DISABLED: &str = "disabled";

#[async_trait]
impl Action for EnableImageDeregistrationProtection {
    async fn run(
        ctx: &Ctx,
        input: EnableImageDeregistrationProtectionRequest,
    ) -> Result<EnableImageDeregistrationProtectionResult, Fault> {
        let image = id(&input.image_id)?;
        let how = match input.with_cooldown {
            Some(true) => DeregistrationProtection::EnabledWithCooldown,
            None | Some(false) => DeregistrationProtection::EnabledWithoutCooldown,
        };
        images::protect(&ctx.cloud, &ctx.who, image, how).await?;
        Ok(EnableImageDeregistrationProtectionResult {
            r#return: Some(how.name().into()),
        })
    }
}

#[async_trait]
impl Action for DisableImageDeregistrationProtection {
    async fn run(
        ctx: &Ctx,
        input: DisableImageDeregistrationProtectionRequest,
    ) -> Result<DisableImageDeregistrationProtectionResult, Fault> {
        let image = id(&input.image_id)?;
        images::unprotect(&ctx.cloud, &ctx.who, image).await?;
        Ok(DisableImageDeregistrationProtectionResult {
            r#return: Some(DISABLED.into()),
        })
    }
}

//! ResetImageAttribute: nobody may launch an image but its account.

use async_trait::async_trait;
use cumulet_backend::api::images;
use cumulet_wire::{
    Done,
    ec2::images::{ResetImageAttribute, ResetImageAttributeRequest},
};

use super::describe_image_attribute::PERMISSION;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for ResetImageAttribute {
    async fn run(ctx: &Ctx, input: ResetImageAttributeRequest) -> Result<Done, Fault> {
        let image = id(&input.image_id)?;
        if input.attribute != PERMISSION {
            let reason = format!("expecting {PERMISSION}");
            return Err(Fault::invalid("Attribute", &input.attribute, reason));
        }
        images::reset(&ctx.cloud, &ctx.who, image).await?;
        Ok(Done)
    }
}

//! GetConsoleScreenshot: what the guest's display shows, a JPEG in base64.

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cumulet_backend::api::instances;
use cumulet_wire::ec2::instances::{
    GetConsoleScreenshot, GetConsoleScreenshotRequest, GetConsoleScreenshotResult,
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for GetConsoleScreenshot {
    async fn run(ctx: &Ctx, input: GetConsoleScreenshotRequest) -> Result<GetConsoleScreenshotResult, Fault> {
        let id = id(&input.instance_id)?;
        let jpeg = instances::console_screenshot(&ctx.cloud, &ctx.who, id).await?;
        Ok(GetConsoleScreenshotResult {
            instance_id: Some(id.to_string()),
            image_data: Some(STANDARD.encode(jpeg)),
        })
    }
}

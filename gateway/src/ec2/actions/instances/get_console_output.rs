//! GetConsoleOutput: the last 64 KiB, base64.

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cumulet_backend::api::instances;
use cumulet_wire::{
    Timestamp,
    ec2::instances::{GetConsoleOutput, GetConsoleOutputRequest, GetConsoleOutputResult},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

/// Bytes shown at the most.
const MAX_OUTPUT: usize = 64 * 1024;

#[async_trait]
impl Action for GetConsoleOutput {
    async fn run(ctx: &Ctx, input: GetConsoleOutputRequest) -> Result<GetConsoleOutputResult, Fault> {
        let id = id(&input.instance_id)?;
        let output = instances::console_output(&ctx.cloud, &ctx.who, id).await?;
        let tail = &output.bytes[output.bytes.len().saturating_sub(MAX_OUTPUT)..];
        Ok(GetConsoleOutputResult {
            instance_id: Some(id.to_string()),
            timestamp: Some(Timestamp(output.at.0)),
            output: Some(STANDARD.encode(tail)),
        })
    }
}

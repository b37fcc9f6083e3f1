//! DeleteSnapshot: others of its volume stay what they are.

use async_trait::async_trait;
use cumulet_backend::api::snapshots;
use cumulet_wire::{
    Done,
    ec2::snapshots::{DeleteSnapshot, DeleteSnapshotRequest},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for DeleteSnapshot {
    async fn run(ctx: &Ctx, input: DeleteSnapshotRequest) -> Result<Done, Fault> {
        let id = id(&input.snapshot_id)?;
        snapshots::delete(&ctx.cloud, &ctx.who, id).await?;
        Ok(Done)
    }
}

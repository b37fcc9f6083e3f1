//! ResetSnapshotAttribute: nobody may make volumes of a snapshot but its account.

use async_trait::async_trait;
use cumulet_backend::api::snapshots;
use cumulet_domain::Error;
use cumulet_wire::{
    Done,
    ec2::snapshots::{ResetSnapshotAttribute, ResetSnapshotAttributeRequest},
};

use super::describe_snapshot_attribute::PERMISSION;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for ResetSnapshotAttribute {
    async fn run(ctx: &Ctx, input: ResetSnapshotAttributeRequest) -> Result<Done, Fault> {
        let id = id(&input.snapshot_id)?;
        if input.attribute != PERMISSION {
            let reason = format!("expecting {PERMISSION}");
            return Err(Error::invalid("Attribute", &input.attribute, reason).into());
        }
        snapshots::reset(&ctx.cloud, &ctx.who, id).await?;
        Ok(Done)
    }
}

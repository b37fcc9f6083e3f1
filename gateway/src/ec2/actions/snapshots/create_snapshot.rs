//! CreateSnapshot: of a volume, attached or not.

use async_trait::async_trait;
use cumulet_backend::api::snapshots::{self, NewSnapshot};
use cumulet_wire::ec2::snapshots::{CreateSnapshot, CreateSnapshotRequest, Snapshot};

use super::describe_snapshots::shown;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id, shown_tags, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CreateSnapshot {
    async fn run(ctx: &Ctx, input: CreateSnapshotRequest) -> Result<Snapshot, Fault> {
        let new = NewSnapshot {
            volume: id(&input.volume_id)?,
            description: input.description.unwrap_or_default(),
            tags: tags_for("snapshot", input.tag_specifications)?,
        };
        let made = snapshots::create(&ctx.cloud, &ctx.who, new).await?;
        Ok(Snapshot {
            // What has just been made shows its tags also where it has none; Ansible fails without.
            tags: Some(shown_tags(&made.tags)),
            ..shown(ctx, &made)
        })
    }
}

//! CreateSnapshots: of an instance's volumes, all as they are at one moment.

use async_trait::async_trait;
use cumulet_backend::api::snapshots::{self, NewSnapshots, SnapshotView};
use cumulet_domain::Error;
use cumulet_wire::{
    Timestamp,
    ec2::snapshots::{CreateSnapshots, CreateSnapshotsRequest, CreateSnapshotsResult, SnapshotInfo},
};

use super::describe_snapshots::progress;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id, ids, shown_tags, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CreateSnapshots {
    async fn run(ctx: &Ctx, input: CreateSnapshotsRequest) -> Result<CreateSnapshotsResult, Fault> {
        let of = input
            .instance_specification
            .ok_or_else(|| Fault::missing("InstanceSpecification"))?;
        let copy_tags = match input.copy_tags_from_source.as_deref() {
            None => false,
            Some("volume") => true,
            Some(other) => return Err(Error::invalid("CopyTagsFromSource", other, "expecting volume").into()),
        };
        let new = NewSnapshots {
            instance: id(&of.instance_id)?,
            exclude_root: of.exclude_boot_volume == Some(true),
            exclude: ids(&of.exclude_data_volume_ids)?,
            description: input.description.unwrap_or_default(),
            tags: tags_for("snapshot", input.tag_specifications)?,
            copy_tags,
        };
        let made = snapshots::create_all(&ctx.cloud, &ctx.who, new).await?;
        Ok(CreateSnapshotsResult {
            snapshots: made.iter().map(info).collect(),
        })
    }
}

fn info(view: &SnapshotView) -> SnapshotInfo {
    let row = &view.row;
    SnapshotInfo {
        snapshot_id: Some(view.id().to_string()),
        volume_id: Some(row.volume.0.to_string()),
        volume_size: i32::try_from(row.size_gib.0).ok(),
        state: Some(row.state.0.name().into()),
        progress: Some(progress(view)),
        start_time: Some(Timestamp(row.created_at)),
        owner_id: Some(row.account.0.to_string()),
        description: Some(row.description.clone()),
        encrypted: Some(row.encrypted.0),
        tags: shown_tags(&view.tags),
        ..Default::default()
    }
}

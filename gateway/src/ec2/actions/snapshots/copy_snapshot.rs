//! CopySnapshot: within the region, which is the cloud's only one.

use async_trait::async_trait;
use cumulet_backend::api::snapshots::{self, Copy};
use cumulet_domain::{Error, volume::EncryptionAsked};
use cumulet_wire::ec2::snapshots::{CopySnapshot, CopySnapshotRequest, CopySnapshotResult};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id, shown_tags, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CopySnapshot {
    async fn run(ctx: &Ctx, input: CopySnapshotRequest) -> Result<CopySnapshotResult, Fault> {
        this_region(ctx, "SourceRegion", &input.source_region)?;
        if let Some(region) = &input.destination_region {
            this_region(ctx, "DestinationRegion", region)?;
        }
        let what = Copy {
            source: id(&input.source_snapshot_id)?,
            description: input.description.unwrap_or_default(),
            encryption: EncryptionAsked {
                encrypted: input.encrypted,
                key: input.kms_key_id,
            },
            tags: tags_for("snapshot", input.tag_specifications)?,
        };
        let made = snapshots::copy(&ctx.cloud, &ctx.who, what).await?;
        Ok(CopySnapshotResult {
            snapshot_id: Some(made.id().to_string()),
            tags: shown_tags(&made.tags),
        })
    }
}

fn this_region(ctx: &Ctx, name: &str, region: &str) -> Result<(), Fault> {
    let own = &ctx.cloud.config.region;
    if region == own {
        return Ok(());
    }
    Err(Error::invalid(name, region, format!("this cloud has the region {own} alone")).into())
}

//! DeregisterImage: no new launches from it; instances that were made from it keep running.

use async_trait::async_trait;
use cumulet_backend::api::images::{self, Deleted};
use cumulet_wire::ec2::images::{
    DeleteSnapshotReturnCode, DeregisterImage, DeregisterImageRequest, DeregisterImageResult,
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for DeregisterImage {
    async fn run(ctx: &Ctx, input: DeregisterImageRequest) -> Result<DeregisterImageResult, Fault> {
        let image = id(&input.image_id)?;
        let with_snapshots = input.delete_associated_snapshots == Some(true);
        let ended = images::deregister(&ctx.cloud, &ctx.who, image, with_snapshots).await?;
        let shown = ended
            .into_iter()
            .map(|(snapshot, became)| DeleteSnapshotReturnCode {
                snapshot_id: Some(snapshot.to_string()),
                return_code: Some(code(became).into()),
            });
        Ok(DeregisterImageResult {
            r#return: Some(true),
            delete_snapshot_results: with_snapshots.then(|| shown.collect()),
        })
    }
}

const fn code(became: Deleted) -> &'static str {
    match became {
        Deleted::Done => "success",
        Deleted::Skipped => "skipped",
        Deleted::NotPermitted => "missing-permissions",
        Deleted::Refused => "client-error",
    }
}

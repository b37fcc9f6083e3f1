//! DescribeSnapshotAttribute: who may make volumes of a snapshot of the account's own. None has product codes.

use async_trait::async_trait;
use cumulet_backend::api::snapshots::{self, Grantees};
use cumulet_domain::Error;
use cumulet_wire::ec2::snapshots::{
    CreateVolumePermission, DescribeSnapshotAttribute, DescribeSnapshotAttributeRequest,
    DescribeSnapshotAttributeResult,
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
        sharing,
    },
    fault::Fault,
};

/// The attribute of who may make volumes of a snapshot.
pub(super) const PERMISSION: &str = "createVolumePermission";

#[async_trait]
impl Action for DescribeSnapshotAttribute {
    async fn run(
        ctx: &Ctx,
        input: DescribeSnapshotAttributeRequest,
    ) -> Result<DescribeSnapshotAttributeResult, Fault> {
        let id = id(&input.snapshot_id)?;
        let found = snapshots::grantees(&ctx.cloud, &ctx.who, id).await?;
        let answer = DescribeSnapshotAttributeResult {
            snapshot_id: Some(id.to_string()),
            ..Default::default()
        };
        match input.attribute.as_str() {
            PERMISSION => Ok(DescribeSnapshotAttributeResult {
                create_volume_permissions: permissions(&found),
                ..answer
            }),
            "productCodes" => Ok(answer),
            other => {
                let reason = "expecting createVolumePermission or productCodes";
                Err(Error::invalid("Attribute", other, reason).into())
            }
        }
    }
}

fn permissions(found: &Grantees) -> Vec<CreateVolumePermission> {
    sharing::shown(found, |user_id, group| CreateVolumePermission { user_id, group })
}

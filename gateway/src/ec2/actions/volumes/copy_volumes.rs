//! CopyVolumes: one volume, in spite of its name.

use async_trait::async_trait;
use cumulet_backend::api::volumes::{self, NewCopy};
use cumulet_domain::volume::{EncryptionAsked, Provisioned};
use cumulet_wire::ec2::volumes::{CopyVolumes, CopyVolumesRequest, CopyVolumesResult};

use super::describe_volumes::shown;
use crate::{
    ec2::{
        action::Action,
        block_devices::{kind, number},
        ctx::{Ctx, id, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CopyVolumes {
    async fn run(ctx: &Ctx, input: CopyVolumesRequest) -> Result<CopyVolumesResult, Fault> {
        let new = NewCopy {
            source: id(&input.source_volume_id)?,
            size_gib: number("Size", input.size, 0)?,
            kind: kind("VolumeType", input.volume_type.as_deref().unwrap_or("gp2"))?,
            provisioned: Provisioned {
                iops: number("Iops", input.iops, 0)?,
                throughput: number("Throughput", input.throughput, 0)?,
            },
            encryption: EncryptionAsked {
                encrypted: input.encrypted,
                key: input.kms_key_id,
            },
            tags: tags_for("volume", input.tag_specifications)?,
            client_token: ctx.token.clone(),
        };
        let made = volumes::copy(&ctx.cloud, &ctx.who, new).await?;
        Ok(CopyVolumesResult {
            volumes: vec![shown(ctx, &made)],
        })
    }
}

//! ModifyVolume: size, type and performance.

use async_trait::async_trait;
use cumulet_backend::api::volumes;
use cumulet_domain::volume::VolumeChange;
use cumulet_wire::ec2::volumes::{ModifyVolume, ModifyVolumeRequest, ModifyVolumeResult};

use super::describe_volumes_modifications::shown;
use crate::{
    ec2::{
        action::Action,
        block_devices::{kind, number},
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for ModifyVolume {
    async fn run(ctx: &Ctx, input: ModifyVolumeRequest) -> Result<ModifyVolumeResult, Fault> {
        let id = id(&input.volume_id)?;
        let kind = |text| kind("VolumeType", text);
        let change = VolumeChange {
            size_gib: number("Size", input.size, 0)?,
            kind: input.volume_type.as_deref().map(kind).transpose()?,
            iops: number("Iops", input.iops, 0)?,
            throughput: number("Throughput", input.throughput, 0)?,
        };
        let begun = volumes::modify(&ctx.cloud, &ctx.who, id, change).await?;
        Ok(ModifyVolumeResult {
            volume_modification: Some(shown(&begun)),
        })
    }
}

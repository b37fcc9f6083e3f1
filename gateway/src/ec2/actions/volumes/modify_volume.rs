//! ModifyVolume: size, type and performance.

use async_trait::async_trait;
use cumulet_backend::api::volumes;
use cumulet_domain::volume::VolumeChange;
use cumulet_wire::ec2::volumes::{ModifyVolume, ModifyVolumeRequest, ModifyVolumeResult};

use super::{
    create_volume::{kind, number},
    describe_volumes_modifications::shown,
};
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for ModifyVolume {
    async fn run(ctx: &Ctx, input: ModifyVolumeRequest) -> Result<ModifyVolumeResult, Fault> {
        let id = id(&input.volume_id)?;
        let count = |name: &str, value: Option<i32>| value.map(|value| number(name, value)).transpose();
        let change = VolumeChange {
            size_gib: count("Size", input.size)?,
            kind: input.volume_type.as_deref().map(kind).transpose()?,
            iops: count("Iops", input.iops)?,
            throughput: count("Throughput", input.throughput)?,
        };
        let begun = volumes::modify(&ctx.cloud, &ctx.who, id, change).await?;
        Ok(ModifyVolumeResult {
            volume_modification: Some(shown(&begun)),
        })
    }
}

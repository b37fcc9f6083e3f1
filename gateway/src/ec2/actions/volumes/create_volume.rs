//! CreateVolume.

use async_trait::async_trait;
use cumulet_backend::api::{
    regions,
    volumes::{self, NewVolume},
};
use cumulet_domain::{
    Error,
    volume::{EncryptionAsked, Provisioned, VolumeState},
};
use cumulet_wire::ec2::volumes::{CreateVolume, CreateVolumeRequest, Volume};

use super::describe_volumes::shown;
use crate::{
    ec2::{
        action::Action,
        block_devices::{kind, number},
        ctx::{Ctx, id, shown_tags, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CreateVolume {
    async fn run(ctx: &Ctx, input: CreateVolumeRequest) -> Result<Volume, Fault> {
        let new = NewVolume {
            availability_zone: zone(ctx, input.availability_zone, input.availability_zone_id)?,
            size_gib: number("Size", input.size, 0)?,
            snapshot: input.snapshot_id.as_deref().map(id).transpose()?,
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
        let made = volumes::create(&ctx.cloud, &ctx.who, new).await?;
        Ok(Volume {
            // EC2 always answers so, and clients ask until it is available.
            state: Some(VolumeState::Creating.name().into()),
            // Unlike a listing, also where there are none.
            tags: Some(shown_tags(&made.tags)),
            ..shown(ctx, &made)
        })
    }
}

/// The zone, by its name or its id.
fn zone(ctx: &Ctx, name: Option<String>, id: Option<String>) -> Result<String, Fault> {
    match (name, id) {
        (Some(name), None) => Ok(name),
        (None, Some(id)) => {
            let mut zones = regions::availability_zones(&ctx.cloud).into_iter();
            let found = zones.find(|zone| zone.id == id).map(|zone| zone.name);
            let none = || Error::NoZone {
                name: id.chars().take(128).collect(),
            };
            Ok(found.ok_or_else(none)?)
        }
        (Some(_), Some(_)) => Err(Error::InvalidCombination {
            reason: "The parameters AvailabilityZone and AvailabilityZoneId may not be given together".into(),
        }
        .into()),
        (None, None) => Err(Fault::missing("AvailabilityZone")),
    }
}

//! CreateVolume.

use async_trait::async_trait;
use cumulet_backend::api::{
    regions,
    volumes::{self, NewVolume},
};
use cumulet_domain::{
    Error,
    names::Unknown,
    volume::{Provisioned, VolumeState, VolumeType},
};
use cumulet_wire::ec2::volumes::{CreateVolume, CreateVolumeRequest, Volume};

use super::describe_volumes::shown;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CreateVolume {
    async fn run(ctx: &Ctx, input: CreateVolumeRequest) -> Result<Volume, Fault> {
        let new = NewVolume {
            availability_zone: zone(ctx, input.availability_zone, input.availability_zone_id)?,
            size_gib: input.size.map(|value| number("Size", value)).transpose()?,
            snapshot: input.snapshot_id.as_deref().map(id).transpose()?,
            kind: kind(input.volume_type.as_deref().unwrap_or("gp2"))?,
            provisioned: Provisioned {
                iops: input.iops.map(|value| number("Iops", value)).transpose()?,
                throughput: input
                    .throughput
                    .map(|value| number("Throughput", value))
                    .transpose()?,
            },
            tags: tags_for("volume", input.tag_specifications)?,
            client_token: ctx.token.clone(),
        };
        let made = volumes::create(&ctx.cloud, &ctx.who, new).await?;
        Ok(Volume {
            // EC2 always answers so, and clients ask until it is available.
            state: Some(VolumeState::Creating.name().into()),
            ..shown(ctx, &made)
        })
    }
}

/// The type of this name.
pub(super) fn kind(name: &str) -> Result<VolumeType, Fault> {
    let kind = name.parse::<VolumeType>();
    Ok(kind.map_err(|_: Unknown| {
        let reason = "expecting gp2, gp3, io1, io2, sc1, st1 or standard";
        Error::invalid("VolumeType", name, reason)
    })?)
}

pub(super) fn number(name: &str, value: i32) -> Result<u32, Fault> {
    let number = u32::try_from(value);
    Ok(number.map_err(|_| Error::invalid(name, &value.to_string(), "a number that is not negative"))?)
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

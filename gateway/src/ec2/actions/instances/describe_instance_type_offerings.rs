//! DescribeInstanceTypeOfferings: every offered type in the region, or in each zone.

use async_trait::async_trait;
use cumulet_backend::api::{Page, PageRequest, instance_types, regions};
use cumulet_wire::ec2::instances::{
    DescribeInstanceTypeOfferings, DescribeInstanceTypeOfferingsRequest, InstanceTypeOffering,
};

use crate::{
    ec2::{
        ctx::Ctx,
        describe::{Describe, slice},
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<u64, InstanceTypeOffering>;

#[async_trait]
impl Describe for DescribeInstanceTypeOfferings {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeInstanceTypeOfferingsRequest,
        _: &Filters<Row>,
        page: PageRequest<u64>,
    ) -> Result<Page<Row, u64>, Fault> {
        let kind = input.location_type.as_deref().unwrap_or("region");
        let zones = regions::availability_zones(&ctx.cloud);
        let locations: Vec<String> = match kind {
            "region" => vec![ctx.region().to_owned()],
            "availability-zone" => zones.into_iter().map(|zone| zone.name).collect(),
            "availability-zone-id" => zones.into_iter().map(|zone| zone.id).collect(),
            "outpost" => Vec::new(),
            other => {
                let reason = "expecting region, availability-zone, availability-zone-id or outpost";
                return Err(Fault::invalid("LocationType", other, reason));
            }
        };
        let types = instance_types::describe(&ctx.cloud, &ctx.who, &[]).await?;
        let offerings = types.iter().flat_map(|t| {
            locations.iter().map(|location| InstanceTypeOffering {
                instance_type: Some(t.name.clone()),
                location_type: Some(kind.to_owned()),
                location: Some(location.clone()),
            })
        });
        Ok(slice(offerings, &page))
    }
}

//! DescribeAvailabilityZones: the configured zones, all of them available.

use async_trait::async_trait;
use cumulet_backend::api::{Page, PageRequest, regions};
use cumulet_domain::Error;
use cumulet_wire::ec2::regions::{
    AvailabilityZone, DescribeAvailabilityZones, DescribeAvailabilityZonesRequest,
};

use crate::{
    ec2::{
        ctx::Ctx,
        describe::{Describe, slice},
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<u64, AvailabilityZone>;

#[async_trait]
impl Describe for DescribeAvailabilityZones {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeAvailabilityZonesRequest,
        _: &Filters<Row>,
        page: PageRequest<u64>,
    ) -> Result<Page<Row, u64>, Fault> {
        let known = regions::availability_zones(&ctx.cloud);
        let (names, ids) = (&input.zone_names, &input.zone_ids);
        let no_name = names
            .iter()
            .find(|name| !known.iter().any(|zone| zone.name == **name));
        let no_id = ids.iter().find(|id| !known.iter().any(|zone| zone.id == **id));
        if let Some(unknown) = no_name.or(no_id) {
            return Err(Error::unknown_zone(unknown).into());
        }
        let wanted = known.into_iter().filter(|zone| {
            (input.zone_names.is_empty() || input.zone_names.contains(&zone.name))
                && (input.zone_ids.is_empty() || input.zone_ids.contains(&zone.id))
        });
        let shown = wanted.map(|zone| AvailabilityZone {
            opt_in_status: Some("opt-in-not-required".into()),
            group_name: Some(format!("{}-zg-1", zone.region)),
            group_long_name: Some(zone.region.clone()),
            network_border_group: Some(zone.region.clone()),
            region_name: Some(zone.region),
            zone_name: Some(zone.name),
            zone_id: Some(zone.id),
            zone_type: Some("availability-zone".into()),
            state: Some("available".into()),
            ..Default::default()
        });
        Ok(slice(shown, &page))
    }
}

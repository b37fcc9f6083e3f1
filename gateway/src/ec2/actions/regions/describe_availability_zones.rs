//! DescribeAvailabilityZones: the configured zones, all of them available.

use async_trait::async_trait;
use cumulet_backend::api::{Page, PageRequest, regions};
use cumulet_domain::Error;
use cumulet_wire::ec2::{
    regions::{
        AvailabilityZone, DescribeAvailabilityZones, DescribeAvailabilityZonesRequest,
        DescribeAvailabilityZonesResult,
    },
    shared::Filter,
};

use crate::{
    ec2::{
        ctx::Ctx,
        describe::{Describe, slice},
        filter::{Filters, Table, never, on, text},
    },
    fault::Fault,
};

type Row = (u64, AvailabilityZone);

#[async_trait]
impl Describe for DescribeAvailabilityZones {
    type Row = Row;
    type Key = u64;
    const FILTERS: Table<Row> = Table {
        defs: &[
            on(&["group-long-name"], |(_, row): &Row, sink| {
                text(&row.group_long_name, sink)
            }),
            on(&["group-name"], |(_, row), sink| text(&row.group_name, sink)),
            on(&["opt-in-status"], |(_, row), sink| {
                text(&row.opt_in_status, sink)
            }),
            on(&["region-name"], |(_, row), sink| text(&row.region_name, sink)),
            on(&["state"], |(_, row), sink| text(&row.state, sink)),
            on(&["zone-id"], |(_, row), sink| text(&row.zone_id, sink)),
            on(&["zone-name"], |(_, row), sink| text(&row.zone_name, sink)),
            on(&["zone-type"], |(_, row), sink| text(&row.zone_type, sink)),
            never(&["message", "parent-zone-id", "parent-zone-name"]),
        ],
        tags: None,
    };

    fn filters(input: &DescribeAvailabilityZonesRequest) -> &[Filter] {
        &input.filters
    }

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
        Ok(slice((0..).zip(shown).collect(), &page))
    }

    fn key(row: &Row) -> u64 {
        row.0
    }

    fn render(
        _: &Ctx,
        _: &DescribeAvailabilityZonesRequest,
        rows: Vec<Row>,
        _: Option<String>,
    ) -> DescribeAvailabilityZonesResult {
        DescribeAvailabilityZonesResult {
            availability_zones: rows.into_iter().map(|row| row.1).collect(),
        }
    }
}

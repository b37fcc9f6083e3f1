//! DescribeRegions: the one region, with this address as its endpoint.

use async_trait::async_trait;
use cumulet_backend::api::{Page, PageRequest, regions};
use cumulet_wire::ec2::{
    regions::{DescribeRegions, DescribeRegionsRequest, DescribeRegionsResult, Region},
    shared::Filter,
};

use crate::{
    ec2::{
        ctx::Ctx,
        describe::{Describe, all_known, slice},
        filter::{Filters, Table, on, text},
    },
    fault::Fault,
};

type Row = (u64, Region);

#[async_trait]
impl Describe for DescribeRegions {
    type Row = Row;
    type Key = u64;
    const FILTERS: Table<Row> = Table {
        defs: &[
            on(&["region-name"], |(_, row): &Row, sink| {
                text(&row.region_name, sink)
            }),
            on(&["endpoint"], |(_, row), sink| text(&row.endpoint, sink)),
            on(&["opt-in-status"], |(_, row), sink| {
                text(&row.opt_in_status, sink)
            }),
        ],
        tags: None,
    };

    fn filters(input: &DescribeRegionsRequest) -> &[Filter] {
        &input.filters
    }

    async fn load(
        ctx: &Ctx,
        input: &DescribeRegionsRequest,
        _: &Filters<Row>,
        page: PageRequest<u64>,
    ) -> Result<Page<Row, u64>, Fault> {
        let known = regions::regions(&ctx.cloud);
        let missing = "there is no such region";
        all_known("RegionName", &input.region_names, &known, |r| &r.name, missing)?;
        let wanted = known
            .into_iter()
            .filter(|r| input.region_names.is_empty() || input.region_names.contains(&r.name));
        let shown = wanted.map(|region| Region {
            endpoint: Some(region.endpoint),
            region_name: Some(region.name),
            opt_in_status: Some("opt-in-not-required".into()),
            ..Default::default()
        });
        Ok(slice((0..).zip(shown).collect(), &page))
    }

    fn key(row: &Row) -> u64 {
        row.0
    }

    fn render(
        _: &Ctx,
        _: &DescribeRegionsRequest,
        rows: Vec<Row>,
        _: Option<String>,
    ) -> DescribeRegionsResult {
        DescribeRegionsResult {
            regions: rows.into_iter().map(|row| row.1).collect(),
        }
    }
}

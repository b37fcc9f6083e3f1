//! DescribeRegions: the one region, with this address as its endpoint.

use async_trait::async_trait;
use cumulet_backend::api::{Page, PageRequest, regions};
use cumulet_wire::ec2::regions::{DescribeRegions, DescribeRegionsRequest, Region};

use crate::{
    ec2::{
        ctx::Ctx,
        describe::{Describe, all_known, slice},
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<u64, Region>;

#[async_trait]
impl Describe for DescribeRegions {
    type Row = Row;

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
        Ok(slice(shown, &page))
    }
}

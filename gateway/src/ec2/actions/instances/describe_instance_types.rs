//! DescribeInstanceTypes: Amazon's call, and for clients of 2015-10-01 Eucalyptus' call of the same name.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    instance_types::{self, Room},
};
use cumulet_domain::catalogue::InstanceType;
use cumulet_wire::{
    ec2::instances::{
        DescribeInstanceTypes, DescribeInstanceTypesRequest, DescribeInstanceTypesResult, InstanceTypeInfo,
    },
    listing::Listing as _,
};

use super::type_info::{details, info};
use crate::{
    ec2::{
        ctx::Ctx,
        describe::{Describe, slice},
        filter::{self, Filters, Keyed},
    },
    fault::Fault,
};

/// The version that euca2ools speaks.
const EUCALYPTUS: &str = "2015-10-01";

/// Types named in one call at the most (API reference).
const MAX_NAMED: usize = 100;

/// GiB of the root disk where nothing else is asked for, as Eucalyptus' shape wants a number.
const DISK_GIB: i32 = 8;

/// A type as it is shown, with what Eucalyptus' shape shows of it.
type Row = Keyed<u64, InstanceTypeInfo, (InstanceType, Vec<Room>)>;

#[async_trait]
impl Describe for DescribeInstanceTypes {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeInstanceTypesRequest,
        _: &Filters<Row>,
        page: PageRequest<u64>,
    ) -> Result<Page<Row, u64>, Fault> {
        if input.instance_types.len() > MAX_NAMED {
            let reason = format!("at most {MAX_NAMED} types can be named at once");
            return Err(Fault::invalid(
                "InstanceType",
                &input.instance_types.len().to_string(),
                reason,
            ));
        }
        let types = instance_types::describe(&ctx.cloud, &ctx.who, &input.instance_types).await?;
        let mut rooms = if ctx.version == EUCALYPTUS && input.availability == Some(true) {
            instance_types::room(&ctx.cloud, &ctx.who, &types).await?
        } else {
            Vec::new()
        };
        rooms.resize(types.len(), Vec::new());
        let page = slice(types.into_iter().zip(rooms), &page);
        let row = |row: Keyed<u64, (InstanceType, Vec<Room>)>| Row {
            key: row.key,
            shown: info(&row.shown.0),
            more: row.shown,
        };
        Ok(Page {
            rows: page.rows.into_iter().map(row).collect(),
            next: page.next,
        })
    }

    fn render(
        ctx: &Ctx,
        _: &DescribeInstanceTypesRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeInstanceTypesResult {
        if ctx.version == EUCALYPTUS {
            let details = |row: &Row| details(&row.more.0, DISK_GIB, &row.more.1);
            return DescribeInstanceTypesResult {
                instance_type_details: Some(rows.iter().map(details).collect()),
                ..Default::default()
            };
        }
        Self::answer(rows.into_iter().map(filter::Row::into_shown).collect(), next)
    }
}

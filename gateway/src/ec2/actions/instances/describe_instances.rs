//! DescribeInstances: pages of reservations, each with those of its instances that pass the filters.

use std::sync::Arc;

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    instances::{self, InstanceQuery, InstanceView, ReservationView},
};
use cumulet_domain::instance::State;
use cumulet_wire::ec2::{
    instances::{DescribeInstances, DescribeInstancesRequest, DescribeInstancesResult, Reservation},
    shared::Filter,
};

use super::filters::{FILTERS, One, Row};
use crate::{
    ec2::{
        ctx::{Ctx, id, ids},
        describe::Describe,
        filter::{Filters, Table},
        page::Paging,
        render,
    },
    fault::Fault,
};

#[async_trait]
impl Describe for DescribeInstances {
    type Row = Row;
    type Key = i64;
    const FILTERS: Table<Row> = FILTERS;

    fn filters(input: &DescribeInstancesRequest) -> &[Filter] {
        &input.filters
    }

    fn paging(input: &DescribeInstancesRequest) -> Paging<'_> {
        Paging {
            max_results: input.max_results,
            next_token: input.next_token.as_deref(),
            named: !input.instance_ids.is_empty(),
        }
    }

    async fn load(
        ctx: &Ctx,
        input: &DescribeInstancesRequest,
        filters: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = InstanceQuery {
            ids: ids(&input.instance_ids)?,
            ..columns(filters)
        };
        let page = instances::describe_reservations(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(Page {
            rows: page.rows.into_iter().map(|view| row(ctx, view)).collect(),
            next: page.next,
        })
    }

    fn narrow(mut row: Row, filters: &Filters<Row>) -> Option<Row> {
        if filters.is_empty() {
            return Some(row);
        }
        let all = std::mem::take(&mut row.instances);
        let mut kept = Vec::new();
        for instance in all {
            row.instances.push(instance);
            if filters.matches(&row) {
                kept.append(&mut row.instances);
            }
            row.instances.clear();
        }
        row.instances = kept;
        (!row.instances.is_empty()).then_some(row)
    }

    fn key(row: &Row) -> i64 {
        row.id
    }

    fn render(
        _: &Ctx,
        _: &DescribeInstancesRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeInstancesResult {
        let reservation = |row: Row| Reservation {
            reservation_id: Some(row.reservation_id),
            owner_id: Some(row.owner_id),
            instances: row.instances.into_iter().map(|one| one.shown).collect(),
            ..Default::default()
        };
        DescribeInstancesResult {
            next_token: next,
            reservations: rows.into_iter().map(reservation).collect(),
        }
    }
}

fn row(ctx: &Ctx, view: ReservationView) -> Row {
    let one = |view: Arc<InstanceView>| One {
        shown: render::instance::instance(&ctx.cloud, &view),
        view,
    };
    Row {
        id: view.id.to_db(),
        reservation_id: view.id.to_string(),
        owner_id: view.account.to_string(),
        instances: view.instances.into_iter().map(one).collect(),
    }
}

/// What of the filters the database can look for by itself. A value that can't be parsed matches nothing,
/// which the filter itself sees to; columns that ended instances don't show are left to it as well.
fn columns(filters: &Filters<Row>) -> InstanceQuery {
    let states = filters.literals("instance-state-name").unwrap_or_default();
    let vpcs = filters.literals("vpc-id").unwrap_or_default();
    let subnets = filters.literals("subnet-id").unwrap_or_default();
    InstanceQuery {
        ids: Vec::new(),
        states: states.into_iter().filter_map(State::from_name).collect(),
        vpcs: vpcs.into_iter().filter_map(|text| id(text).ok()).collect(),
        subnets: subnets.into_iter().filter_map(|text| id(text).ok()).collect(),
    }
}

//! DescribeInstances: pages of reservations in the order of their launches, each with those of its instances that
//! pass the filters.

use std::sync::Arc;

use async_trait::async_trait;
use cumulet_backend::api::{
    Cloud, Page, PageRequest,
    instances::{self, InstanceQuery, InstanceView, ReservationKey, ReservationView},
};
use cumulet_domain::instance::State;
use cumulet_wire::{
    ToXml, XmlBody,
    ec2::instances::{DescribeInstances, DescribeInstancesRequest, DescribeInstancesResult, Reservation},
    xml::XmlWriter,
};

use super::filters::{FILTERS, One, Row};
use crate::{
    ec2::{
        ctx::{Ctx, id, ids},
        describe::{Describe, paged},
        filter::{Filters, Table},
        render,
    },
    fault::Fault,
};

#[async_trait]
impl Describe for DescribeInstances {
    type Row = Row;
    type Key = ReservationKey;
    const FILTERS: Table<Row> = FILTERS;
    /// Their quota bounds them, and all of an account are kept in memory for the next time.
    const CHUNK: Option<u32> = None;

    paged!(instance_ids);

    async fn load(
        ctx: &Ctx,
        input: &DescribeInstancesRequest,
        filters: &Filters<Row>,
        page: PageRequest<ReservationKey>,
    ) -> Result<Page<Row, ReservationKey>, Fault> {
        let query = InstanceQuery {
            ids: ids(&input.instance_ids)?,
            ..columns(filters)
        };
        let page = instances::describe_reservations(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(Page {
            rows: rows(ctx, filters, page.rows),
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

    fn key(row: &Row) -> ReservationKey {
        row.key
    }

    fn render(
        ctx: &Ctx,
        _: &DescribeInstancesRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeInstancesResult {
        let instance = |one: One| render::instance::instance(&ctx.cloud, &one.view);
        let reservation = |row: Row| Reservation {
            instances: row.instances.into_iter().map(instance).collect(),
            reservation_id: Some(row.reservation_id),
            owner_id: Some(row.owner_id),
            ..Default::default()
        };
        DescribeInstancesResult {
            next_token: next,
            reservations: rows.into_iter().map(reservation).collect(),
        }
    }

    fn members(
        ctx: &Ctx,
        _: &DescribeInstancesRequest,
        rows: Vec<Row>,
        next: Option<String>,
        w: &mut XmlWriter,
    ) {
        let (cloud, rows, next) = (&ctx.cloud, &rows[..], next.as_deref());
        Listing { cloud, rows, next }.members(w);
    }
}

/// What [`Describe::render`] makes, written one instance after the other: the shapes of 1,000 of them
/// are more memory than the processor has at hand, and cost more than all else of the answer.
struct Listing<'a> {
    cloud: &'a Cloud,
    rows: &'a [Row],
    next: Option<&'a str>,
}

impl XmlBody for Listing<'_> {
    fn members(&self, w: &mut XmlWriter) {
        if let Some(next) = self.next {
            w.text("nextToken", next);
        }
        if self.rows.is_empty() {
            return w.empty("reservationSet");
        }
        w.reserve(room(self.rows));
        w.open("reservationSet");
        for row in self.rows {
            w.open("item");
            w.text("reservationId", &row.reservation_id);
            w.text("ownerId", &row.owner_id);
            w.empty("groupSet");
            w.open("instancesSet");
            for one in &row.instances {
                write(self.cloud, &one.view, w);
            }
            w.close("instancesSet");
            w.close("item");
        }
        w.close("reservationSet");
    }
}

/// Bytes that reservations will take, more or less: `item`s around those of instances that were written before.
fn room(rows: &[Row]) -> usize {
    const AROUND: usize = 200;
    let instances = rows.iter().flat_map(|row| &row.instances);
    let known = instances.map(|one| one.view.rendering.get().map_or(0, str::len));
    known.sum::<usize>() + rows.len() * AROUND
}

/// An instance, as it was written before or anew. It is kept where the next request finds the same view.
fn write(cloud: &Cloud, view: &Arc<InstanceView>, w: &mut XmlWriter) {
    if let Some(written) = view.rendering.get() {
        return w.again(written);
    }
    let at = w.len();
    render::instance::instance(cloud, view).to_xml("item", w);
    if Arc::strong_count(view) > 1 {
        view.rendering.keep(w.since(at));
    }
}

fn rows(ctx: &Ctx, filters: &Filters<Row>, views: Vec<ReservationView>) -> Vec<Row> {
    let unseen = Arc::default();
    let one = |view: Arc<InstanceView>| One {
        shown: if filters.is_empty() {
            Arc::clone(&unseen)
        } else {
            Arc::new(render::instance::instance(&ctx.cloud, &view))
        },
        view,
    };
    let row = |view: ReservationView| Row {
        key: view.key(),
        reservation_id: view.id.to_string(),
        owner_id: view.account.to_string(),
        instances: view.instances.into_iter().map(one).collect(),
    };
    views.into_iter().map(row).collect()
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

#[cfg(test)]
mod tests {
    use cumulet_wire::ec2::operations;

    use super::*;
    use crate::tests::World;

    fn written(ctx: &Ctx, rows: Vec<Row>, next: Option<String>) -> String {
        let mut w = XmlWriter::new();
        DescribeInstances::members(ctx, &DescribeInstancesRequest::default(), rows, next, &mut w);
        w.finish()
    }

    fn expected(shapes: &DescribeInstancesResult) -> String {
        let mut w = XmlWriter::new();
        shapes.members(&mut w);
        w.finish()
    }

    #[tokio::test]
    async fn what_is_written_is_what_the_shapes_say() {
        let world = World::new().await;
        world
            .run(
                2,
                "&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=%3Ca%3E",
            )
            .await;
        world.run(1, "").await;
        let info = operations::OPERATIONS
            .iter()
            .find(|info| info.name == "DescribeInstances");
        let ctx = Ctx::new(
            world.cloud.clone(),
            world.who.clone(),
            (&crate::ec2::EC2, info.unwrap()),
            "2016-11-15",
            crate::fences::Meter::unlimited(),
        );
        let filters = Filters::parse(&FILTERS, &[]).unwrap_or_else(|_| panic!("no filters"));
        let input = DescribeInstancesRequest::default();
        for (limit, next) in [(None, None), (Some(1), Some("token&"))] {
            let page = async || {
                let page = PageRequest { limit, after: None };
                DescribeInstances::load(&ctx, &input, &filters, page)
                    .await
                    .unwrap()
                    .rows
            };
            let next = || next.map(str::to_owned);
            let shapes = DescribeInstances::render(&ctx, &input, page().await, next());
            assert_eq!(written(&ctx, page().await, next()), expected(&shapes));
            let kept = page().await;
            let mut kept = kept.iter().flat_map(|row| &row.instances);
            assert!(kept.all(|one| one.view.rendering.get().is_some()));
            assert_eq!(written(&ctx, page().await, next()), expected(&shapes));
        }
        let none = DescribeInstances::render(&ctx, &input, Vec::new(), None);
        assert_eq!(written(&ctx, Vec::new(), None), expected(&none));
    }
}

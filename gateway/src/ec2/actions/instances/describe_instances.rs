//! DescribeInstances: pages of reservations in the order of their launches, each with those of its instances that
//! pass the filters.

use std::sync::Arc;

use async_trait::async_trait;
use cumulet_backend::api::{
    Cloud, Page, PageRequest,
    instances::{self, InstanceQuery, InstanceView, ReservationKey, ReservationView},
};
use cumulet_domain::{instance::State, tag::Tag};
use cumulet_wire::{
    ToXml, XmlBody,
    ec2::instances::{
        DescribeInstances, DescribeInstancesRequest, DescribeInstancesResult, Instance, Reservation,
    },
    listing::Listing as _,
    xml::XmlWriter,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids},
        describe::Describe,
        filter::{self, Def, Filters, on},
        render,
    },
    fault::Fault,
};

/// A reservation, or a part of one with a single instance while the filters look at it.
pub(crate) struct Row {
    key: ReservationKey,
    instances: Vec<Arc<InstanceView>>,
    /// How it is shown: with its instances where there are filters to look at them, and else without.
    shown: Reservation,
}

impl filter::Row for Row {
    type Key = ReservationKey;
    type Shape = Reservation;

    fn key(&self) -> ReservationKey {
        self.key
    }

    fn shown(&self) -> &Reservation {
        &self.shown
    }

    fn into_shown(self) -> Reservation {
        self.shown
    }

    fn parts(&self) -> usize {
        self.instances.len()
    }
}

/// The tags of all its interfaces, which are not shown with the instance.
fn interface_tags(row: &Row) -> impl Iterator<Item = &Tag> {
    let interfaces = row.instances.iter().flat_map(|view| &view.interfaces);
    interfaces.flat_map(|interface| &interface.tags)
}

#[async_trait]
impl Describe for DescribeInstances {
    type Row = Row;
    const COMPUTED: &'static [Def<Row>] = &[
        on("network-interface.tag-key", |row, hear| {
            interface_tags(row).for_each(|tag| hear(&tag.key));
        }),
        on("network-interface.tag-value", |row, hear| {
            interface_tags(row).for_each(|tag| hear(&tag.value));
        }),
        // One that has no group is shown with an empty name.
        on("placement-group-name", |row, hear| {
            let groups = row
                .instances
                .iter()
                .filter_map(|view| view.placement_group.as_deref());
            groups.filter(|name| !name.is_empty()).for_each(hear);
        }),
    ];
    /// All of an account are read at once as long as they can be kept in memory for the next time. Of more (their
    /// quota does not count those that have ended) the domain reads a chunk at a time.
    const CHUNK: Option<u32> = None;

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
        Ok(page.map(|view| row(ctx, filters, view)))
    }

    fn narrow(mut row: Row, filters: &Filters<Row>) -> Option<Row> {
        if filters.is_empty() {
            return Some(row);
        }
        let views = std::mem::take(&mut row.instances);
        let shapes = std::mem::take(&mut row.shown.instances);
        let mut kept = (Vec::new(), Vec::new());
        for (view, shape) in views.into_iter().zip(shapes) {
            row.instances.push(view);
            row.shown.instances.push(shape);
            if filters.matches(&row) {
                kept.0.append(&mut row.instances);
                kept.1.append(&mut row.shown.instances);
            }
            row.instances.clear();
            row.shown.instances.clear();
        }
        (row.instances, row.shown.instances) = kept;
        (!row.instances.is_empty()).then_some(row)
    }

    fn render(
        ctx: &Ctx,
        _: &DescribeInstancesRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeInstancesResult {
        let instance = |view: &Arc<InstanceView>| render::instance::instance(&ctx.cloud, view);
        let reservation = |row: Row| Reservation {
            instances: row.instances.iter().map(instance).collect(),
            ..row.shown
        };
        Self::answer(rows.into_iter().map(reservation).collect(), next)
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
            row.shown.reservation_id.to_xml("reservationId", w);
            row.shown.owner_id.to_xml("ownerId", w);
            w.empty("groupSet");
            w.open("instancesSet");
            for (n, view) in row.instances.iter().enumerate() {
                write(self.cloud, view, row.shown.instances.get(n), w);
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
    let known = instances.map(|view| view.rendering.get().map_or(0, str::len));
    known.sum::<usize>() + rows.len() * AROUND
}

/// An instance, as it was written before or anew: from the shape that the filters have looked at, if they have. What is
/// written is kept where the next request finds the same view.
fn write(cloud: &Cloud, view: &Arc<InstanceView>, shown: Option<&Instance>, w: &mut XmlWriter) {
    if let Some(written) = view.rendering.get() {
        return w.again(written);
    }
    let at = w.len();
    match shown {
        Some(shown) => shown.to_xml("item", w),
        None => render::instance::instance(cloud, view).to_xml("item", w),
    }
    if Arc::strong_count(view) > 1 {
        view.rendering.keep(w.since(at));
    }
}

fn row(ctx: &Ctx, filters: &Filters<Row>, view: ReservationView) -> Row {
    let mut shown = render::instance::bare_reservation(&view);
    if !filters.is_empty() {
        let instance = |view: &Arc<InstanceView>| render::instance::instance(&ctx.cloud, view);
        shown.instances = view.instances.iter().map(instance).collect();
    }
    Row {
        key: view.key(),
        instances: view.instances,
        shown,
    }
}

/// What of the filters the database can look for by itself. A value that can't be parsed matches nothing,
/// which the filter itself sees to.
fn columns(filters: &Filters<Row>) -> InstanceQuery {
    let states = filters.literals("instance-state-name").unwrap_or_default();
    InstanceQuery {
        ids: Vec::new(),
        states: states.into_iter().filter_map(State::from_name).collect(),
        vpcs: filters.ids("vpc-id"),
        subnets: filters.ids("subnet-id"),
    }
}

#[cfg(test)]
mod tests {
    use cumulet_wire::ec2::operations;

    use super::*;
    use crate::{ec2::describe, tests::World};

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
        let filters = Filters::parse(&describe::filters_of::<DescribeInstances>(), &[])
            .unwrap_or_else(|_| panic!("no filters"));
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
            assert!(kept.all(|view| view.rendering.get().is_some()));
            assert_eq!(written(&ctx, page().await, next()), expected(&shapes));
        }
        let none = DescribeInstances::render(&ctx, &input, Vec::new(), None);
        assert_eq!(written(&ctx, Vec::new(), None), expected(&none));
    }
}

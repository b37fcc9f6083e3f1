//! DescribeInstanceStatus: whether instances are reachable. Only running ones unless all are asked for.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    hosts::{self, Maintenance},
    instances::{self, InstanceQuery, InstanceView},
    regions,
};
use cumulet_domain::{instance::State, time::Timestamp};
use cumulet_wire::ec2::instances::{
    DescribeInstanceStatus, DescribeInstanceStatusRequest, DescribeInstanceStatusResult, InstanceStatus,
    InstanceStatusDetails, InstanceStatusEvent, InstanceStatusSummary,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids},
        describe::{Describe, paged},
        filter::{Filters, Sink, Table, never, on, some, text},
        render,
    },
    fault::Fault,
};

/// A guest that has run for so long counts as started.
const SETTLED: Duration = Duration::from_secs(5);

type Row = (i64, InstanceStatus);

fn status(summary: &Option<InstanceStatusSummary>, sink: &mut Sink<'_>) {
    some(summary.as_ref().and_then(|summary| summary.status.as_ref()), sink);
}

fn reachability(summary: &Option<InstanceStatusSummary>, sink: &mut Sink<'_>) {
    for detail in summary.iter().flat_map(|summary| &summary.details) {
        text(&detail.status, sink);
    }
}

/// A text of each of an instance's events.
fn event(row: &InstanceStatus, of: fn(&InstanceStatusEvent) -> Option<String>, sink: &mut Sink<'_>) {
    row.events.iter().filter_map(of).for_each(|text| sink(&text));
}

fn time(at: cumulet_wire::Timestamp) -> String {
    Timestamp(at.0).to_string()
}

#[async_trait]
impl Describe for DescribeInstanceStatus {
    type Row = Row;
    type Key = i64;
    const FILTERS: Table<Row> = Table {
        defs: &[
            on(&["availability-zone"], |(_, row): &Row, sink| {
                text(&row.availability_zone, sink)
            }),
            on(&["availability-zone-id"], |(_, row), sink| {
                text(&row.availability_zone_id, sink)
            }),
            on(&["instance-state-code"], |(_, row), sink| {
                some(row.instance_state.as_ref().and_then(|state| state.code), sink);
            }),
            on(&["instance-state-name"], |(_, row), sink| {
                some(
                    row.instance_state.as_ref().and_then(|state| state.name.as_ref()),
                    sink,
                );
            }),
            on(&["instance-status.status"], |(_, row), sink| {
                status(&row.instance_status, sink)
            }),
            on(&["instance-status.reachability"], |(_, row), sink| {
                reachability(&row.instance_status, sink)
            }),
            on(&["system-status.status"], |(_, row), sink| {
                status(&row.system_status, sink)
            }),
            on(&["system-status.reachability"], |(_, row), sink| {
                reachability(&row.system_status, sink)
            }),
            on(&["event.code"], |(_, row), sink| {
                event(row, |e| e.code.clone(), sink)
            }),
            on(&["event.description"], |(_, row), sink| {
                event(row, |e| e.description.clone(), sink);
            }),
            on(&["event.instance-event-id"], |(_, row), sink| {
                event(row, |e| e.instance_event_id.clone(), sink);
            }),
            on(&["event.not-after"], |(_, row), sink| {
                event(row, |e| e.not_after.map(time), sink);
            }),
            on(&["event.not-before"], |(_, row), sink| {
                event(row, |e| e.not_before.map(time), sink);
            }),
            never(&[
                "application-status.status",
                "attached-ebs-status.status",
                "event.not-before-deadline",
                "operator.managed",
                "operator.principal",
            ]),
        ],
        tags: None,
    };

    /// Their quota bounds them.
    const CHUNK: Option<u32> = None;

    paged!(instance_ids);

    async fn load(
        ctx: &Ctx,
        input: &DescribeInstanceStatusRequest,
        _: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let all = input.include_all_instances == Some(true);
        let named = !input.instance_ids.is_empty();
        let query = InstanceQuery {
            ids: ids(&input.instance_ids)?,
            // Named ones must all be there, whatever their state: that is seen to below.
            states: if all || named {
                Vec::new()
            } else {
                vec![State::Running]
            },
            ..InstanceQuery::default()
        };
        let page = instances::describe(&ctx.cloud, &ctx.who, &query, page).await?;
        let now = ctx.cloud.now();
        let planned = hosts::planned(&ctx.cloud).await?;
        let wanted = |view: &InstanceView| all || view.state() == State::Running;
        let rows = page
            .rows
            .iter()
            .filter(|view| wanted(view))
            .map(|view| (view.row.id, shown(view, &planned, now)));
        Ok(Page {
            rows: rows.collect(),
            next: page.next,
        })
    }

    fn key(row: &Row) -> i64 {
        row.0
    }

    fn render(
        _: &Ctx,
        _: &DescribeInstanceStatusRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeInstanceStatusResult {
        DescribeInstanceStatusResult {
            instance_statuses: rows.into_iter().map(|row| row.1).collect(),
            next_token: next,
        }
    }
}

/// The maintenance of an instance's host, as a scheduled event.
fn scheduled(view: &InstanceView, planned: &HashMap<String, Maintenance>) -> Option<InstanceStatusEvent> {
    let plan = planned.get(view.row.host.as_deref()?)?;
    let id = view.id().to_string();
    Some(InstanceStatusEvent {
        code: Some("system-maintenance".into()),
        description: Some(
            plan.reason
                .clone()
                .unwrap_or_else(|| "The host is maintained".into()),
        ),
        instance_event_id: Some(format!("instance-event-{}", id.trim_start_matches("i-"))),
        not_before: Some(cumulet_wire::Timestamp(plan.start.0)),
        not_after: Some(cumulet_wire::Timestamp(plan.end.0)),
        ..Default::default()
    })
}

fn shown(view: &InstanceView, planned: &HashMap<String, Maintenance>, now: Timestamp) -> InstanceStatus {
    let (status, detail) = health(view.state(), view.row.running_since.map(Timestamp), now);
    let summary = InstanceStatusSummary {
        status: Some(status.into()),
        details: detail.map(reachable).into_iter().collect(),
    };
    InstanceStatus {
        availability_zone: Some(view.row.availability_zone.clone()),
        availability_zone_id: Some(regions::zone_id(&view.row.availability_zone)),
        instance_id: Some(view.id().to_string()),
        instance_state: Some(render::instance::state(view.state())),
        instance_status: Some(summary.clone()),
        system_status: Some(summary),
        events: scheduled(view, planned).into_iter().collect(),
        ..Default::default()
    }
}

fn reachable(status: &str) -> InstanceStatusDetails {
    InstanceStatusDetails {
        name: Some("reachability".into()),
        status: Some(status.into()),
        ..Default::default()
    }
}

/// The summary and the reachability.
fn health(
    state: State,
    running_since: Option<Timestamp>,
    now: Timestamp,
) -> (&'static str, Option<&'static str>) {
    match (state, running_since) {
        (State::Running, Some(since)) if now.since(since) >= SETTLED => ("ok", Some("passed")),
        (State::Running | State::Pending, _) => ("initializing", Some("initializing")),
        _ => ("not-applicable", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_well_once_it_has_run_for_a_while() {
        let at = |seconds: i64| Timestamp(seconds * 1000);
        for (state, since, now, expected) in [
            (State::Running, Some(at(10)), at(15), "ok"),
            (State::Running, Some(at(10)), at(14), "initializing"),
            (State::Running, None, at(14), "initializing"),
            (State::Pending, None, at(14), "initializing"),
            (State::Stopped, Some(at(0)), at(14), "not-applicable"),
            (State::Terminated, None, at(14), "not-applicable"),
        ] {
            assert_eq!(health(state, since, now).0, expected, "{state:?} {since:?}");
        }
    }
}

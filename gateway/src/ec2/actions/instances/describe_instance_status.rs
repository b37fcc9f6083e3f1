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
    DescribeInstanceStatus, DescribeInstanceStatusRequest, InstanceStatus, InstanceStatusDetails,
    InstanceStatusEvent, InstanceStatusSummary,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids},
        describe::Describe,
        filter::{Filters, Keyed},
        render,
    },
    fault::Fault,
};

/// A guest that has run for so long counts as started.
const SETTLED: Duration = Duration::from_secs(5);

type Row = Keyed<i64, InstanceStatus>;

#[async_trait]
impl Describe for DescribeInstanceStatus {
    type Row = Row;
    /// As with DescribeInstances.
    const CHUNK: Option<u32> = None;

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
            .map(|view| Row::new(view.row.id.to_db(), shown(view, &planned, now)));
        Ok(Page {
            rows: rows.collect(),
            next: page.next,
        })
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

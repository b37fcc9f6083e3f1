//! Reports of hosts, applied to rows. A report is believed only for objects that the database assigns to the
//! host that sent it, and only at the object's present generation; everything else is dropped.

use std::collections::BTreeMap;

use cumulet_bus::{Delivered, ReportMailbox};
use cumulet_domain::{
    Error, ResourceKind, Result, crash_point,
    id::{HostId, InstanceId},
    message::{Outcome, Report, ReportContent, SnapshotOutcome, VolumeOutcome},
    time::Timestamp,
};
use cumulet_operations::{Heard, OfInstance, REGISTRY, changes::changed, instance::instance_subject};
use cumulet_store::entity::{
    instance,
    operation::{self, OperationStatus},
    volume,
};
use futures::{FutureExt as _, future::join_all};

use crate::{
    Conductor,
    belongs::{self, Subject},
    boxed,
    full_report::full,
    heartbeat,
    intake::Intake,
    sync,
};

/// Reports that are applied side by side, so that their transactions share commits.
pub(super) const BATCH: usize = 256;

/// Reports that are taken from the bus at once, to be put in their hosts' lanes.
const TAKEN: usize = 4096;

pub(super) async fn listen(conductor: &Conductor) -> Result<ReportMailbox> {
    conductor
        .bus
        .report_mailbox()
        .await
        .map_err(|error| Error::Unavailable(error.to_string()))
}

pub(super) async fn run(conductor: Conductor, mut mailbox: ReportMailbox) {
    let mut intake = Intake::new(conductor.dropped.clone());
    loop {
        // While something waits, what else has come is looked at and not waited for.
        let came = match intake.is_empty() {
            true => mailbox.next_batch(TAKEN).await,
            false => mailbox.next_batch(TAKEN).now_or_never().unwrap_or_default(),
        };
        if came.is_empty() && intake.is_empty() {
            return;
        }
        let now = conductor.clock.now();
        came.into_iter().for_each(|report| intake.put(report, now));
        let batch = intake.take(BATCH);
        if batch.is_empty() {
            // All of it was too much: others are to come to their turn.
            tokio::task::yield_now().await;
        }
        // Reports about one object keep their order; those about different ones need none.
        let mut by_object: BTreeMap<(HostId, Option<InstanceId>), Vec<Delivered<Report>>> = BTreeMap::new();
        for report in batch {
            by_object
                .entry((report.host.clone(), about(&report.content)))
                .or_default()
                .push(report);
        }
        join_all(
            by_object
                .into_values()
                .map(|reports| in_order(&conductor, reports)),
        )
        .await;
    }
}

async fn in_order(conductor: &Conductor, reports: Vec<Delivered<Report>>) {
    for report in reports {
        match apply(conductor, Report::clone(&report)).await {
            // What it changed is committed: it need not come again.
            Ok(()) => report.ack(),
            // It comes again; and if it never can be applied, commands are sent again and full reports
            // come again.
            Err(error) => {
                let (host, times) = (&report.host, report.times());
                tracing::error!(%host, %error, times, "a report could not be applied");
            }
        }
    }
}

fn about(content: &ReportContent) -> Option<InstanceId> {
    match content {
        ReportContent::Changed(report) => Some(report.instance),
        ReportContent::Done(outcome) => Some(outcome.report.instance),
        ReportContent::MetadataApplied { instance, .. } => Some(*instance),
        _ => None,
    }
}

/// Applies a report, if it may be true: within the limits, and about what is its host's.
#[boxed]
pub async fn apply(conductor: &Conductor, report: Report) -> Result<()> {
    let host = report.host.clone();
    let report = match report.within_limits() {
        Ok((report, left_out)) => {
            if !left_out.is_empty() {
                tracing::warn!(%host, ?left_out, "a part of what a host says can't be taken");
            }
            report
        }
        // It would be as wrong the next time.
        Err(reason) => {
            tracing::warn!(?host, reason, "a report is dropped");
            return Ok(());
        }
    };
    let Report { host, at, content } = report;
    let Some(subject) = belongs::subject(conductor.store.read(), &host, &content).await? else {
        tracing::debug!(%host, ?content, "a report about what is not its host's, or not any more");
        return Ok(());
    };
    match content {
        ReportContent::Heartbeat(heartbeat) => heartbeat::apply(conductor, host, *heartbeat).await,
        ReportContent::Changed(seen) => changed(conductor, host, at, seen).await,
        ReportContent::Done(outcome) => match subject {
            Subject::Command(of) => done(conductor, host, at, outcome, *of).await,
            _ => Ok(()),
        },
        ReportContent::VolumeDone(outcome) => match subject {
            Subject::Volume(of) => volume_done(conductor, outcome, *of).await,
            _ => Ok(()),
        },
        ReportContent::SnapshotDone(outcome) => match subject {
            Subject::Snapshots(operation) => snapshots_done(conductor, host, outcome, *operation).await,
            _ => Ok(()),
        },
        ReportContent::NetworkApplied { vpc, generation } => {
            sync::network_applied(conductor, host, vpc, generation).await
        }
        ReportContent::MetadataApplied { instance, revision } => {
            sync::metadata_applied(conductor, host, instance, revision).await
        }
        ReportContent::Full(seen) => full(conductor, host, at, seen).await,
    }
}

/// The outcome of a command about a volume whose data is on its host.
async fn volume_done(
    conductor: &Conductor,
    outcome: VolumeOutcome,
    (operation, row): (operation::Model, volume::Model),
) -> Result<()> {
    // That of a launch which takes its volumes away from a host is its instance's.
    let about = (ResourceKind::Volume.resource_type(), row.id.to_db());
    let is_stale = operation.subject() == about && row.generation != operation.generation;
    if operation.status.0 != OperationStatus::Active || is_stale {
        tracing::debug!(volume = %outcome.volume, "a report came too late");
        return Ok(());
    }
    let Some(kind) = REGISTRY.find(&operation.kind) else {
        return Ok(());
    };
    crash_point!(kind.name(), "heard");
    kind.heard(conductor, operation, Heard::Volume(outcome)).await
}

/// The outcome of a command to take snapshots, from the host that was told.
async fn snapshots_done(
    conductor: &Conductor,
    host: HostId,
    outcome: SnapshotOutcome,
    operation: operation::Model,
) -> Result<()> {
    if operation.status.0 != OperationStatus::Active {
        tracing::debug!(%host, operation = %outcome.operation, "a report came too late");
        return Ok(());
    }
    let Some(kind) = REGISTRY.find(&operation.kind) else {
        return Ok(());
    };
    crash_point!(kind.name(), "heard");
    kind.heard(conductor, operation, Heard::Snapshots(host, outcome))
        .await
}

/// The outcome of a command to an instance that is on its host: its operation knows what that means.
async fn done(
    conductor: &Conductor,
    host: HostId,
    at: Timestamp,
    outcome: Outcome,
    (operation, row): (operation::Model, instance::Model),
) -> Result<()> {
    // What an operation on a volume waits for, it knows itself: it is told at whatever generation its instance has.
    let is_its_own = operation.subject() == instance_subject(row.id.to_db());
    if operation.status.0 != OperationStatus::Active || (is_its_own && row.generation != operation.generation)
    {
        tracing::debug!(%host, instance = %outcome.report.instance, "a report came too late");
        return Ok(());
    }
    let Some(kind) = REGISTRY.find(&operation.kind) else {
        return Ok(());
    };
    crash_point!(kind.name(), "heard");
    let heard = Heard::Instance(Box::new(OfInstance {
        host,
        at,
        outcome,
        row,
    }));
    kind.heard(conductor, operation, heard).await
}

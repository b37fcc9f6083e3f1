//! Reports of hosts, applied to rows. A report is believed only for objects that the database assigns to the
//! host that sent it, and only at the object's present generation; everything else is dropped.

use std::collections::BTreeMap;

use cumulet_bus::{Delivered, ReportMailbox};
use cumulet_domain::{
    Error, Result, crash_point,
    id::{HostId, InstanceId, OperationId, marker},
    instance::{Event, Intent, State, StateReason},
    message::{Action, InstanceReport, OffReason, Outcome, Power, Report, ReportContent},
    time::Timestamp,
};
use futures::{FutureExt as _, future::join_all};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel,
};

use super::{
    Conductor,
    belongs::{self, Standing, Subject},
    deadline::is_after,
    full_report::full,
    heartbeat,
    intake::Intake,
    journal::{self, NewOperation, OperationKind, OperationState},
    ops::{self, Cause, give_up},
    release, sync,
};
use crate::{
    entity::{instance, operation},
    store::{failed, instances},
};

/// Reports that are applied side by side, so that their transactions share commits.
pub(super) const BATCH: usize = 256;

/// Reports that are taken from the bus at once, to be put in their hosts' lanes.
const TAKEN: usize = 4096;

/// How often a command may fail before the operation does.
const ATTEMPTS: i64 = 5;

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
async fn apply(conductor: &Conductor, report: Report) -> Result<()> {
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
            Subject::Host | Subject::Instance | Subject::Network => Ok(()),
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

/// The outcome of a command to an instance that is on its host.
async fn done(
    conductor: &Conductor,
    host: HostId,
    at: Timestamp,
    outcome: Outcome,
    (operation, row): (operation::Model, instance::Model),
) -> Result<()> {
    if operation.status != "active" || row.generation != operation.generation {
        tracing::debug!(%host, instance = %outcome.report.instance, "a report came too late");
        return Ok(());
    }
    let Some(kind) = OperationKind::from_name(&operation.kind) else {
        return Ok(());
    };
    crash_point!(kind.name(), "heard");
    if operation.step == journal::Step::Clear.name() {
        return cleared(conductor, operation, row, outcome).await;
    }
    match outcome.failure {
        Some(failure) if kind == OperationKind::Reboot && outcome.report.power != Power::On => {
            // It had gone off before it could be asked to start over: that is what is to be dealt with.
            // A call that wanted it to run loses nothing for good: it stops, whatever made it go off.
            give_up(conductor, &operation, kind, Cause::on_host(&host, failure)).await?;
            let seen = InstanceReport {
                off_reason: None,
                ..outcome.report
            };
            changed(conductor, host, at, seen).await
        }
        Some(failure) => failed_command(conductor, &host, operation, kind, failure, outcome.permanent).await,
        None => succeeded(conductor, &host, operation, kind, outcome.report).await,
    }
}

async fn succeeded(
    conductor: &Conductor,
    host: &HostId,
    operation: operation::Model,
    kind: OperationKind,
    report: InstanceReport,
) -> Result<()> {
    let now = conductor.clock.now();
    let expected = match kind {
        OperationKind::Launch | OperationKind::Start | OperationKind::Reboot => report.power == Power::On,
        OperationKind::Stop => report.power != Power::On,
        OperationKind::Terminate => report.power == Power::Absent,
    };
    if !expected {
        let is = match report.power {
            Power::On => "runs",
            Power::Off => "is off",
            Power::Absent => "is not there",
        };
        let text = format!("the guest {is} after the {}", kind.name());
        return failed_command(conductor, host, operation, kind, text, false).await;
    }
    conductor
        .store
        .write(move |txn| Box::pin(async move { close(txn, &operation, kind, now).await }))
        .await?;
    crash_point!(kind.name(), "ended");
    conductor.wake.now();
    Ok(())
}

/// A host has answered the command to destroy what a failed launch left there: when nothing is left, the
/// launch goes on elsewhere.
async fn cleared(
    conductor: &Conductor,
    operation: operation::Model,
    row: instance::Model,
    outcome: Outcome,
) -> Result<()> {
    let now = conductor.clock.now();
    if outcome.failure.is_some() || outcome.report.power != Power::Absent {
        tracing::warn!(operation.instance, failure = ?outcome.failure, "a failed launch could not be cleared away");
        let (step, next) = (journal::Step::Clear, now.after(backoff(operation.attempts + 1)));
        let again = journal::go_on(&conductor.store, &operation, step, operation.attempts + 1, next);
        return again.await.map(drop);
    }
    let write = conductor.store.write(move |txn| {
        Box::pin(async move {
            instances::lock(txn, &[operation.instance]).await?;
            if journal::proceed(txn, &operation, journal::Step::Place, 0, now).await? {
                release::unplaced(txn, &row).await?;
            }
            Ok(())
        })
    });
    write.await?;
    conductor.wake.now();
    Ok(())
}

fn backoff(attempts: i64) -> std::time::Duration {
    std::time::Duration::from_secs(1 << attempts.clamp(0, 5))
}

async fn close(
    txn: &DatabaseTransaction,
    operation: &operation::Model,
    kind: OperationKind,
    now: Timestamp,
) -> Result<()> {
    match kind {
        OperationKind::Launch | OperationKind::Start => release::running(txn, operation, now).await,
        OperationKind::Stop => release::stopped(txn, operation, journal::state(operation)?.reason, now).await,
        OperationKind::Reboot => journal::finish(txn, operation.id, None, now).await.map(drop),
        OperationKind::Terminate => release::terminated(txn, operation, now).await,
    }?;
    crash_point!(kind.name(), "closed");
    Ok(())
}

async fn failed_command(
    conductor: &Conductor,
    host: &HostId,
    operation: operation::Model,
    kind: OperationKind,
    failure: String,
    permanent: bool,
) -> Result<()> {
    let attempts = operation.attempts + 1;
    tracing::warn!(
        operation.instance,
        operation.kind,
        attempts,
        failure,
        "a command has failed"
    );
    let endless = kind == OperationKind::Terminate;
    if !endless && (permanent || attempts >= ATTEMPTS) {
        return match kind {
            OperationKind::Launch => ops::retry_on_other_host(conductor, &operation, failure).await,
            _ => give_up(conductor, &operation, kind, Cause::on_host(host, failure)).await,
        };
    }
    let now = conductor.clock.now();
    let (next, by) = (now.after(backoff(attempts)), conductor.deadlines.by(now));
    if !endless && by.after(backoff(attempts)).0 >= operation.deadline {
        // The next look would only find that it is too late, and not know why.
        let cause = Cause::on_host(host, format_args!("{failure}; {}", ops::late(kind)));
        return give_up(conductor, &operation, kind, cause).await;
    }
    journal::go_on(
        &conductor.store,
        &operation,
        journal::Step::Command,
        attempts,
        next,
    )
    .await
    .map(drop)
}

/// A guest changed by itself, or a full report shows that it has.
pub(super) async fn changed(
    conductor: &Conductor,
    host: HostId,
    at: Timestamp,
    seen: InstanceReport,
) -> Result<()> {
    let (now, id) = (conductor.clock.now(), conductor.rng.id::<marker::Operation>());
    let (on, instance) = (host.clone(), seen.instance);
    let write = conductor.store.write(move |txn| {
        Box::pin(async move {
            instances::lock(txn, &[seen.instance.to_db()]).await?;
            let row = instance::Entity::find_by_id(seen.instance.to_db())
                .one(txn)
                .await
                .map_err(failed)?;
            let Some(row) = row else {
                return Ok((false, None));
            };
            // What was seen before the end is no longer so.
            if row.terminated_at.is_some_and(|ended| !is_after(at, ended, now)) {
                return Ok((false, None));
            }
            if let Some(generation) = remains(&on, &row, &seen) {
                return Ok((false, Some(generation)));
            }
            let acted = react(txn, &on, row, &seen, id, now).await?;
            Ok((acted, None))
        })
    });
    let (acted, remains) = write.await?;
    if acted {
        conductor.wake.now();
    }
    if let Some(generation) = remains {
        let action = Action::Destroy { instance, generation };
        sync::send(conductor, &host, action, now).await;
    }
    Ok(())
}

/// The generation at which a host is to destroy a guest whose instance has ended: that of the instance's
/// end, and only if the guest is not of a later one. It is commanded as often as it is reported.
fn remains(host: &HostId, row: &instance::Model, seen: &InstanceReport) -> Option<u64> {
    if belongs::standing(row, host) != Standing::Ended || seen.power == Power::Absent {
        return None;
    }
    let end = u64::try_from(row.generation).ok()?;
    let (instance, power) = (seen.instance, seen.power);
    if seen.generation > end {
        tracing::error!(%host, %instance, ?power, "a host has a guest of a terminated instance, and a newer one");
        return None;
    }
    tracing::error!(%host, %instance, ?power, "a host has a guest of a terminated instance; it is destroyed");
    Some(end)
}

/// What a change asks for; it only ever creates an operation. True where it did.
async fn react(
    conn: &impl ConnectionTrait,
    host: &HostId,
    row: instance::Model,
    seen: &InstanceReport,
    id: OperationId,
    now: Timestamp,
) -> Result<bool> {
    let here = belongs::standing(&row, host) == Standing::Here;
    let stale = i64::try_from(seen.generation).is_ok_and(|generation| generation < row.generation);
    match (State::from_name(&row.state), seen.power) {
        (Some(State::Running), Power::Off | Power::Absent) if here => {
            if i64::try_from(seen.generation).unwrap_or(0) < journal::began(conn, row.id).await? {
                return Ok(false); // of a time before it ran
            }
            if journal::active(conn, row.id).await?.is_some() {
                return Ok(false); // that operation's own report will tell
            }
            went_off(conn, row, seen.off_reason, id, now).await.map(|()| true)
        }
        (Some(State::Stopped), Power::On) if here && !stale => {
            tracing::warn!(instance = %seen.instance, "a stopped instance runs; it is stopped again");
            let state = OperationState {
                force: true,
                ..OperationState::default()
            };
            let generation = row.generation + 1;
            let new = NewOperation {
                id,
                kind: OperationKind::Stop,
                account: row.account,
                instance: row.id,
                generation,
                state,
                now,
            };
            let mut change = row.into_active_model();
            change.generation = Set(generation);
            change.update(conn).await.map_err(failed)?;
            journal::enqueue(conn, new).await.map(|_| true)
        }
        _ => Ok(false),
    }
}

/// A running guest is off: by its own will it stops or terminates, as its shutdown behaviour says;
/// otherwise it stops.
async fn went_off(
    conn: &impl ConnectionTrait,
    row: instance::Model,
    off: Option<OffReason>,
    id: OperationId,
    now: Timestamp,
) -> Result<()> {
    let by_itself = off == Some(OffReason::GuestShutdown);
    let reason = if by_itself {
        StateReason::new("Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
    } else {
        StateReason::new("Server.InternalError", "the guest's process ended unexpectedly")
    };
    let terminate = by_itself && row.shutdown_behavior == "terminate";
    let (event, intent, kind) = if terminate {
        (
            Event::TerminateAsked,
            Intent::Terminated,
            OperationKind::Terminate,
        )
    } else {
        (Event::StopAsked, Intent::Stopped, OperationKind::Stop)
    };
    let state = release::moved(&row, event)?;
    let generation = row.generation + 1;
    let new = NewOperation {
        id,
        kind,
        account: row.account,
        instance: row.id,
        generation,
        state: OperationState {
            force: true,
            reason: Some(reason.clone()),
            ..OperationState::default()
        },
        now,
    };
    let mut change = row.into_active_model();
    change.state = Set(state.name().into());
    change.intent = Set(intent.name().into());
    change.generation = Set(generation);
    change.reason_code = Set(Some(reason.code));
    change.reason_message = Set(Some(reason.message));
    change.transition_reason = Set(Some(String::new()));
    change.update(conn).await.map_err(failed)?;
    journal::enqueue(conn, new).await.map(drop)
}

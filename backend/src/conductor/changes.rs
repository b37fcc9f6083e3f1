//! What guests do by themselves: a change that a host reports, or that a full report shows, and the operation that
//! it asks for. It only ever creates operations, but for a guest whose instance has ended.

use cumulet_domain::{
    Result,
    id::{HostId, OperationId, marker},
    instance::{Event, Intent, ShutdownBehavior, State, StateReason},
    message::{Action, InstanceReport, OffReason, Power},
    time::Timestamp,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use super::{
    Conductor,
    belongs::{self, Standing},
    deadline::is_after,
    operations::{Launch, Start, Stop, StopState, Terminate, TerminateState, subject, target},
    release, sync,
};
use crate::{
    entity::{instance, operation},
    journal::{self, NewOperation, Operation},
    store::{failed, first, instances},
};

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
    txn: &DatabaseTransaction,
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
            if i64::try_from(seen.generation).unwrap_or(0) < began(txn, row.id).await? {
                return Ok(false); // of a time before it ran
            }
            if journal::active(txn, subject(row.id)).await?.is_some() {
                return Ok(false); // that operation's own report will tell
            }
            went_off(txn, row, seen.off_reason, id, now).await.map(|()| true)
        }
        (Some(State::Stopped), Power::On) if here && !stale => {
            tracing::warn!(instance = %seen.instance, "a stopped instance runs; it is stopped again");
            let state = StopState {
                force: true,
                reason: None,
            };
            let generation = row.generation + 1;
            let new = NewOperation::of::<Stop>(id, target(&row, generation), &state, now)?;
            let mut change = row.into_active_model();
            change.generation = Set(generation);
            change.update(txn).await.map_err(failed)?;
            journal::enqueue(txn, new).await.map(|_| true)
        }
        _ => Ok(false),
    }
}

/// A running guest is off: by its own will it stops or terminates, as its shutdown behaviour says;
/// otherwise it stops.
async fn went_off(
    txn: &DatabaseTransaction,
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
    let terminate = by_itself && instances::shutdown_behavior(&row)? == ShutdownBehavior::Terminate;
    let (event, intent) = if terminate {
        (Event::TerminateAsked, Intent::Terminated)
    } else {
        (Event::StopAsked, Intent::Stopped)
    };
    let state = release::moved(&row, event)?;
    let generation = row.generation + 1;
    let (on, why) = (target(&row, generation), Some(reason.clone()));
    let new = if terminate {
        NewOperation::of::<Terminate>(id, on, &TerminateState { reason: why }, now)
    } else {
        let (force, reason) = (true, why);
        NewOperation::of::<Stop>(id, on, &StopState { force, reason }, now)
    };
    let mut change = row.into_active_model();
    change.state = Set(state.name().into());
    change.intent = Set(intent.name().into());
    change.generation = Set(generation);
    change.reason_code = Set(Some(reason.code));
    change.reason_message = Set(Some(reason.message));
    change.transition_reason = Set(Some(String::new()));
    change.update(txn).await.map_err(failed)?;
    journal::enqueue(txn, new?).await.map(drop)
}

/// The generation at which an instance has come to run: what a host has seen at it or after it is of this
/// run, also where a reboot that has raised the generation since never reached the host. 0 where the
/// operation is no longer kept: nothing of the time before it is on its way any more.
async fn began(conn: &impl ConnectionTrait, instance: i64) -> Result<i64> {
    use operation::Column as C;
    let began = operation::Entity::find()
        .select_only()
        .column(C::Generation)
        .filter(C::Instance.eq(instance))
        .filter(C::Status.eq("done"))
        .filter(C::Kind.is_in([Launch::NAME, Start::NAME]))
        .order_by_desc(C::Generation);
    Ok(first(began, conn).await?.unwrap_or(0))
}

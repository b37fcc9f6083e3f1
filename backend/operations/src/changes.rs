//! What guests do by themselves: a change that a host reports, or that a full report shows, and the operation that
//! it asks for. It only ever creates operations, but for a guest whose instance has ended.

use cumulet_domain::{
    Result,
    id::{HostId, OperationId, marker},
    instance::{Event, Intent, ShutdownBehavior, State, StateReason},
    message::{Action, InstanceReport, OffReason, Power},
    time::Timestamp,
};
use cumulet_journal::{self as journal, NewOperation};
use cumulet_store::{
    entity::{
        columns::{Amount, Key, Named},
        instance,
        operation::{self, OperationStatus},
    },
    failed, first, instances, rows,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use crate::{
    Driver, boxed,
    deadline::is_after,
    instance::{subject, target},
    registry::REGISTRY,
    release,
    standing::{Standing, standing},
    steps::RUN,
    stop::{Stop, StopState},
    terminate::{Terminate, TerminateState},
};

/// A guest changed by itself, or a full report shows that it has.
#[boxed]
pub async fn changed(driver: &Driver, host: HostId, at: Timestamp, seen: InstanceReport) -> Result<()> {
    let (now, id) = (driver.clock.now(), driver.rng.id::<marker::Operation>());
    let (on, instance) = (host.clone(), seen.instance);
    let write = driver.store.write(move |txn| {
        Box::pin(async move {
            instances::lock(txn, &[seen.instance.to_db()]).await?;
            let row = rows::one(instance::Entity::find_by_id(Key(seen.instance)), txn).await?;
            let Some(row) = row else {
                return Ok((false, None));
            };
            // What was seen before the end is no longer so.
            if row.terminated_at.is_some_and(|ended| !is_after(at, ended, now)) {
                return Ok((false, None));
            }
            if let Some(generation) = remains(&on, &row, &seen)? {
                return Ok((false, Some(generation)));
            }
            let acted = react(txn, &on, row, &seen, id, now).await?;
            Ok((acted, None))
        })
    });
    let (acted, remains) = write.await?;
    if acted {
        driver.wake.now();
    }
    if let Some(generation) = remains {
        let action = Action::Destroy {
            instance,
            generation,
            kept: None,
        };
        driver.send(&host, action, now).await;
    }
    Ok(())
}

/// The generation at which a host is to destroy a guest whose instance has ended: that of the instance's
/// end, and only if the guest is not of a later one. It is commanded as often as it is reported.
fn remains(host: &HostId, row: &instance::Model, seen: &InstanceReport) -> Result<Option<u64>> {
    if standing(row, host)? != Standing::Ended || seen.power == Power::Absent {
        return Ok(None);
    }
    let (instance, power) = (seen.instance, seen.power);
    let end = row.generation.0;
    if seen.generation > end {
        tracing::error!(%host, %instance, ?power, "a host has a guest of a terminated instance, and a newer one");
        return Ok(None);
    }
    tracing::error!(%host, %instance, ?power, "a host has a guest of a terminated instance; it is destroyed");
    Ok(Some(end))
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
    let here = standing(&row, host)? == Standing::Here;
    let stale = seen.generation < row.generation.0;
    match (row.state.0, seen.power) {
        (State::Running, Power::Off | Power::Absent) if here => {
            if seen.generation < began(txn, row.id.to_db()).await? {
                return Ok(false); // of a time before it ran
            }
            if journal::active(txn, subject(row.id.to_db())).await?.is_some() {
                return Ok(false); // that operation's own report will tell
            }
            went_off(txn, row, seen.off_reason, id, now).await.map(|()| true)
        }
        (State::Stopped, Power::On) if here && !stale => {
            tracing::warn!(instance = %seen.instance, "a stopped instance runs; it is stopped again");
            let state = StopState {
                force: true,
                reason: None,
            };
            let generation = row.generation.next();
            let new = NewOperation::of::<Stop>(id, target(&row, generation.0), &state, now)?;
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
    let terminate = by_itself && row.shutdown_behavior.0 == ShutdownBehavior::Terminate;
    let (event, intent) = if terminate {
        (Event::TerminateAsked, Intent::Terminated)
    } else {
        (Event::StopAsked, Intent::Stopped)
    };
    let state = release::moved(&row, event)?;
    let generation = row.generation.next();
    let (on, why) = (target(&row, generation.0), Some(reason.clone()));
    let new = if terminate {
        NewOperation::of::<Terminate>(id, on, &TerminateState::because(why), now)
    } else {
        let (force, reason) = (true, why);
        NewOperation::of::<Stop>(id, on, &StopState { force, reason }, now)
    };
    let mut change = row.into_active_model();
    change.state = Set(Named(state));
    change.intent = Set(Named(intent));
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
async fn began(conn: &impl ConnectionTrait, instance: i64) -> Result<u64> {
    use operation::Column as C;
    let began = operation::Entity::find()
        .select_only()
        .column(C::Generation)
        .filter(C::Instance.eq(instance))
        .filter(C::Status.eq(Named(OperationStatus::Done)))
        .filter(C::Kind.is_in(REGISTRY.with(&RUN)))
        .order_by_desc(C::Generation);
    let began: Option<Amount> = first(began, conn).await?;
    Ok(began.map_or(0, |generation| generation.0))
}

//! The end of an operation that fails for good: a launch ends in a terminate, a start in `stopped`, a stop is
//! repeated by force; a reboot leaves the instance as it is. Always with a reason.

use std::fmt::Display;

use cumulet_domain::{
    Result,
    id::{HostId, marker},
    instance::{Event, Intent, State, StateReason, transition},
    time::Timestamp,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait, IntoActiveModel};

use crate::{
    conductor::{
        Conductor,
        journal::{self, FailedHost, NewOperation, OperationKind, OperationState},
        release,
    },
    entity::{host, instance, operation},
    scheduler::SILENCE,
    store::{failed, instances},
};

/// Why an operation failed for good.
#[derive(Clone, Debug)]
pub(in crate::conductor) struct Cause(StateReason);

impl Cause {
    /// No host can take the instance.
    pub(in crate::conductor) fn no_capacity(text: &str) -> Self {
        Cause(StateReason::new("Server.InsufficientInstanceCapacity", text))
    }

    /// It failed.
    fn failure(text: impl Display) -> Self {
        Cause(StateReason::new("Server.InternalError", text))
    }

    /// The host could not do it.
    pub(in crate::conductor) fn on_host(host: &HostId, text: impl Display) -> Self {
        Cause::failure(format_args!("host {host}: {text}"))
    }

    /// It was tried on these hosts, and that is all there is.
    pub(in crate::conductor) fn tried(attempts: &[FailedHost], then: impl Display) -> Self {
        let said: Vec<String> = attempts
            .iter()
            .map(|attempt| format!("host {}: {}", attempt.host, attempt.failure))
            .collect();
        Cause::failure(format_args!("{}; {then}", said.join("; ")))
    }

    /// It took too long. `standing` is what is the matter with the host, where that is known.
    pub(in crate::conductor) fn overdue(
        kind: OperationKind,
        host: Option<&HostId>,
        standing: Option<&str>,
    ) -> Self {
        let late = late(kind);
        match (host, standing) {
            (Some(host), Some(standing)) => Cause::on_host(host, format_args!("{standing}; {late}")),
            (Some(host), None) => Cause::on_host(host, late),
            (None, _) => Cause::failure(format_args!("no host was found in time; {late}")),
        }
    }
}

/// That an operation was not done in time, in words.
pub(in crate::conductor) fn late(kind: OperationKind) -> String {
    let seconds = kind.deadline().as_secs();
    format!("the {} did not end within {seconds} s", kind.name())
}

/// What is the matter with a host: that it is silent, or why it is not ready.
pub(in crate::conductor) async fn standing(
    conductor: &Conductor,
    host: &HostId,
    now: Timestamp,
) -> Result<Option<String>> {
    let row = host::Entity::find_by_id(host.0.as_str());
    let row = row.one(conductor.store.read()).await.map_err(failed)?;
    Ok(row.and_then(|row| match now.since(Timestamp(row.last_seen)) {
        silent if silent >= SILENCE => Some(format!("it has not been heard of for {} s", silent.as_secs())),
        _ => row.not_ready_reason,
    }))
}

/// Ends the operation as failed and sets the instance on the way to what is left for it.
pub(in crate::conductor) async fn give_up(
    conductor: &Conductor,
    operation: &operation::Model,
    kind: OperationKind,
    cause: Cause,
) -> Result<()> {
    let (operation, now, id) = (
        operation.clone(),
        conductor.clock.now(),
        conductor.rng.id::<marker::Operation>(),
    );
    tracing::warn!(
        operation.instance,
        operation.kind,
        reason = cause.0.message,
        "an operation has failed"
    );
    conductor
        .store
        .write(move |txn| {
            Box::pin(async move {
                instances::lock(txn, &[operation.instance]).await?;
                if !journal::finish(txn, operation.id, Some(cause.0.message.clone()), now).await? {
                    return Ok(());
                }
                let row = instance::Entity::find_by_id(operation.instance)
                    .one(txn)
                    .await
                    .map_err(failed)?;
                let Some(row) = row.filter(|row| row.generation == operation.generation) else {
                    return Ok(());
                };
                let follow = follow(txn, &operation, &row, kind, cause).await?;
                if let Some((kind, generation, state)) = follow {
                    let (account, instance) = (row.account, row.id);
                    let new = NewOperation {
                        id,
                        kind,
                        account,
                        instance,
                        generation,
                        state,
                        now,
                    };
                    journal::enqueue(txn, new).await?;
                }
                Ok(())
            })
        })
        .await?;
    conductor.wake.now();
    Ok(())
}

type Follow = Option<(OperationKind, i64, OperationState)>;

/// What is left to do for an instance, after its row has been changed for it.
async fn follow(
    conn: &impl ConnectionTrait,
    operation: &operation::Model,
    row: &instance::Model,
    kind: OperationKind,
    cause: Cause,
) -> Result<Follow> {
    match kind {
        OperationKind::Launch => launch_failed(conn, row, cause).await,
        OperationKind::Start => start_failed(conn, row, cause).await,
        OperationKind::Stop => {
            let reason = journal::state(operation)?.reason;
            let state = OperationState {
                force: true,
                reason,
                ..OperationState::default()
            };
            Ok(Some((OperationKind::Stop, row.generation, state)))
        }
        // The instance stays as it was. Its host may never have heard of the new generation, which
        // `reports::react` knows.
        OperationKind::Reboot | OperationKind::Terminate => Ok(None),
    }
}

async fn launch_failed(conn: &impl ConnectionTrait, row: &instance::Model, cause: Cause) -> Result<Follow> {
    let (generation, state) = fail(conn, row, Event::LaunchFailed, Intent::Terminated, cause).await?;
    Ok(Some((OperationKind::Terminate, generation, state)))
}

/// Whatever the host has begun is stopped by a command of a higher generation, after which the claim is
/// given back.
async fn start_failed(conn: &impl ConnectionTrait, row: &instance::Model, cause: Cause) -> Result<Follow> {
    debug_assert_eq!(transition(State::Stopped, Event::Halted), Ok(State::Stopped));
    let (generation, state) = fail(conn, row, Event::StartFailed, Intent::Stopped, cause).await?;
    Ok((row.claimed != 0).then_some((OperationKind::Stop, generation, state)))
}

/// Writes what has become of an instance and why; the generation and the state of the operation that
/// clears up after it.
async fn fail(
    conn: &impl ConnectionTrait,
    row: &instance::Model,
    event: Event,
    intent: Intent,
    Cause(reason): Cause,
) -> Result<(i64, OperationState)> {
    let generation = row.generation + 1;
    let mut change = row.clone().into_active_model();
    change.state = Set(release::moved(row, event)?.name().into());
    change.intent = Set(intent.name().into());
    change.generation = Set(generation);
    change.reason_code = Set(Some(reason.code.clone()));
    change.reason_message = Set(Some(reason.message.clone()));
    change.transition_reason = Set(Some(reason.code.clone()));
    change.update(conn).await.map_err(failed)?;
    let state = OperationState {
        force: true,
        reason: Some(reason),
        ..OperationState::default()
    };
    Ok((generation, state))
}

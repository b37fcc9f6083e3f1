//! What becomes of an instance whose operation fails for good: a launch ends in a terminate, a start in
//! `stopped`, a stop is repeated by force; a reboot leaves it as it is. Always with a reason.

use std::fmt::Display;

use cumulet_domain::{
    Result,
    id::marker,
    instance::{Event, Intent, State, StateReason, transition},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait, IntoActiveModel};

use crate::{
    conductor::{
        Conductor,
        journal::{self, Attempt, NewOperation, OperationKind, OperationState},
        release,
    },
    entity::{instance, operation},
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

    /// The host could not do it.
    pub(in crate::conductor) fn failure(text: impl Display) -> Self {
        Cause(StateReason::new("Server.InternalError", text))
    }

    /// It was tried on these hosts, and that is all there is.
    pub(in crate::conductor) fn tried(attempts: &[Attempt], then: impl Display) -> Self {
        let said: Vec<String> = attempts
            .iter()
            .map(|attempt| format!("{}: {}", attempt.host, attempt.failure))
            .collect();
        Cause::failure(format_args!("{}; {then}", said.join("; ")))
    }

    /// It took too long.
    pub(in crate::conductor) fn deadline() -> Self {
        Cause::failure("the host did not finish in time")
    }
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

//! Steps that several operations on instances have: `clear` removes a failed launch from its host, `place` claims a
//! host, `command` sets when the operation is looked at again and, as the last of a round, sends the host its
//! command. Every step may run any number of times. The operations call them.

pub(super) mod clear;
pub(super) mod command;
pub(super) mod demand;
pub(super) mod failure;
pub(super) mod other_host;
pub(super) mod place;

use cumulet_domain::{
    Result,
    crash::Role,
    id::OperationId,
    instance::{Event, Intent, StateReason},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, IntoActiveModel};

use super::instance_of;
use crate::{
    conductor::{Conductor, release},
    entity::{instance, operation},
    journal::{self, Failure, How, Operation, Step},
    store::{failed, rows},
};

/// The call that asks for an operation.
pub(super) const ASK: Step = Step::elsewhere("ask", Role::Gateway, &["asked", "written", "committed"]);

/// What a failed launch has left on its host is to be destroyed there, again and again, until the host reports that
/// nothing is left.
pub(super) const CLEAR: Step = Step::leased("clear", Role::Conductor, &[]);

/// A host is to be claimed.
pub(in crate::conductor) const PLACE: Step = Step::leased(
    "place",
    Role::Scheduler,
    &["leased", "claimed", "waiting", "sent"],
);

/// The host is to be told, again and again, until it reports.
pub(super) const COMMAND: Step = Step::leased("command", Role::Conductor, &["leased", "waiting", "sent"]);

/// The same where the first command goes out as soon as there is a host: it passes the same points.
pub(super) const RECOMMAND: Step = Step::leased("command", Role::Conductor, &[]);

/// The report that ends an operation.
pub(super) const HEAR: Step = Step::elsewhere("hear", Role::Conductor, &["heard", "closed", "ended"]);

/// The generation of the commands of an operation.
///
/// # Errors
/// `Internal` where the row is damaged.
pub(super) fn generation_of(operation: &operation::Model) -> Result<u64> {
    rows::fit(
        "operations",
        OperationId::from_db(operation.id),
        "generation",
        operation.generation,
    )
}

/// Ends an operation as failed for good.
pub(super) async fn give_up<O: Operation<Cx = Conductor>>(
    conductor: &Conductor,
    operation: operation::Model,
    failure: Failure,
) -> Result<()> {
    tracing::warn!(
        operation.instance = instance_of(&operation),
        operation.kind,
        reason = failure.message,
        "an operation has failed"
    );
    let end = journal::end::<O>(conductor, operation, How::Failed(failure));
    end.await.map(drop)
}

/// Writes what has become of an instance and why; the generation and the reason for the operation that clears up
/// after it.
pub(super) async fn fail(
    conn: &impl ConnectionTrait,
    row: &instance::Model,
    event: Event,
    intent: Intent,
    failure: &Failure,
) -> Result<(i64, StateReason)> {
    let Failure { code, message } = failure.clone();
    let generation = row.generation + 1;
    let mut change = row.clone().into_active_model();
    change.state = Set(release::moved(row, event)?.name().into());
    change.intent = Set(intent.name().into());
    change.generation = Set(generation);
    change.reason_code = Set(Some(code.clone()));
    change.reason_message = Set(Some(message.clone()));
    change.transition_reason = Set(Some(code.clone()));
    change.update(conn).await.map_err(failed)?;
    Ok((generation, StateReason { code, message }))
}

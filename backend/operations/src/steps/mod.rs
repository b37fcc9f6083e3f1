//! Steps that several operations on instances have: `place` claims a host, `command` sets when the operation is looked
//! at again and, as the last of a round, sends the host its command, by `hand_over`, as every operation does. Every step
//! may run any number of times. The operations call them.

pub(crate) mod command;
pub(crate) mod demand;
pub(crate) mod driven;
pub(crate) mod failure;
pub(crate) mod hand_over;
pub mod place;
pub(crate) mod round;

use cumulet_domain::{
    Result,
    crash::Role,
    instance::{Event, Intent, StateReason},
};
use cumulet_journal::{self as journal, Failure, How, Operation, Step};
use cumulet_store::{
    entity::{columns::Named, instance, operation},
    failed,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, IntoActiveModel};
use serde::{Deserialize, Serialize};

use crate::{Driver, instance::instance_of, release};

/// What an operation carries that needs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// The call that asks for an operation.
pub(crate) const ASK: Step = Step::elsewhere("ask", Role::Gateway, &["asked", "written", "committed"]);

/// What a failed launch has left on its host is to be destroyed there, again and again, until the host reports that
/// nothing is left.
pub(crate) const CLEAR: Step = Step::leased("clear", Role::Conductor, &[]);

/// A host is to be claimed.
pub const PLACE: Step = Step::leased(
    "place",
    Role::Scheduler,
    &["leased", "claimed", "waiting", "sent"],
);

/// The host is to be told, again and again, until it reports.
pub const COMMAND: Step = Step::leased("command", Role::Conductor, &["leased", "waiting", "sent"]);

/// The same where the first command goes out as soon as there is a host: it passes the same points.
pub(crate) const RECOMMAND: Step = Step::leased("command", Role::Conductor, &[]);

/// What a host passes while it brings a guest up.
pub(crate) const RUN: Step = Step::elsewhere(
    "run",
    Role::Host,
    &[
        "received", "begun", "metadata", "image", "disk", "tap", "defined", "firewall", "started", "done",
        "reported",
    ],
);

/// The end of an instance on its host.
pub(crate) const DESTROY: Step = Step::elsewhere(
    "destroy",
    Role::Host,
    &[
        "received",
        "begun",
        "absent",
        "flattened",
        "moved",
        "network",
        "metadata",
        "tombstone",
        "removed",
        "reported",
    ],
);

/// The report that ends an operation.
pub(crate) const HEAR: Step = Step::elsewhere("hear", Role::Conductor, &["heard", "closed", "ended"]);

/// Ends an operation as failed for good.
pub(crate) async fn give_up<O: Operation<Cx = Driver>>(
    driver: &Driver,
    operation: operation::Model,
    failure: Failure,
) -> Result<()> {
    tracing::warn!(
        operation.instance = instance_of(&operation),
        operation.kind,
        reason = failure.message,
        "an operation has failed"
    );
    let end = journal::end::<O>(driver, operation, How::Failed(failure));
    end.await.map(drop)
}

/// Writes what has become of an instance and why; the generation and the reason for the operation that clears up
/// after it.
pub(crate) async fn fail(
    conn: &impl ConnectionTrait,
    row: &instance::Model,
    event: Event,
    intent: Intent,
    failure: &Failure,
) -> Result<(u64, StateReason)> {
    let Failure { code, message } = failure.clone();
    let generation = row.generation.next();
    let mut change = row.clone().into_active_model();
    change.state = Set(Named(release::moved(row, event)?));
    change.intent = Set(Named(intent));
    change.generation = Set(generation);
    change.reason_code = Set(Some(code.clone()));
    change.reason_message = Set(Some(message.clone()));
    change.transition_reason = Set(Some(code.clone()));
    change.update(conn).await.map_err(failed)?;
    Ok((generation.0, StateReason { code, message }))
}

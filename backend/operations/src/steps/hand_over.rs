//! The handing over of an operation's command to a host, by one rule for all that tell hosts: what was handed over is
//! sent again when no answer has come for a while, and what could not be is tried again soon. Steps call it, and what
//! tells a host at an answer.

use std::time::Duration;

use cumulet_domain::{
    Result,
    id::HostId,
    message::{Action, Command},
    time::Timestamp,
};
use cumulet_journal as journal;
use cumulet_store::entity::operation;

use crate::Driver;

/// How long until a command is sent again.
pub(crate) const RESEND: Duration = Duration::from_secs(15);

/// How long a command that could not be handed over waits.
const RETRY: Duration = Duration::from_secs(1);

/// Hands an operation's command over; whether that was possible. Where it was not, the operation is looked at again
/// soon, at the step that it is at: whoever has set its next look for `RESEND` has thought of an answer.
pub(crate) async fn hand_over(
    driver: &Driver,
    operation: &operation::Model,
    host: &HostId,
    action: Action,
    now: Timestamp,
) -> Result<bool> {
    let command = Command {
        operation: Some(operation.id.0),
        deadline: Timestamp(operation.deadline).max(now.after(RESEND)),
        action,
        keys: Vec::new(),
        storage: None,
    };
    let Err(error) = driver.command(host, command).await else {
        return Ok(true);
    };
    let (of, number) = operation.subject();
    tracing::warn!(operation.kind, of, number, %host, %error, "a command could not be handed over");
    journal::postpone(&driver.store, operation.id.0, now.after(RETRY)).await?;
    Ok(false)
}

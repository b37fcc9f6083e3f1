//! The step `command`: the desired state, sent to the host. The operation then waits in the journal and holds
//! no task; the host's report ends it, and as long as none comes the command is sent again.

use cumulet_domain::{Result, crash_point, id::HostId, message::Action};
use cumulet_journal::{self as journal, Next};
use cumulet_store::entity::operation;

use crate::{
    instance::instance_of,
    steps::{
        COMMAND,
        driven::Driven,
        failure::{overdue, standing},
        give_up,
        hand_over::{RESEND, hand_over},
        round::Round,
    },
};

/// The step: the operation's next look is set, then the command is to go out to the host that is answered.
pub(crate) async fn run<O: Driven>(round: &Round, operation: &operation::Model) -> Result<Next> {
    let row = round.instance(operation)?;
    if row.generation != operation.generation {
        return Ok(Next::Wait); // superseded between the lease and the look at the instance
    }
    if round.is_overdue(operation) {
        if !O::IS_ENDLESS {
            overdue_on::<O>(round, operation, row.host.clone().map(HostId)).await?;
            return Ok(Next::Wait);
        }
        tracing::error!(
            operation.instance = instance_of(operation),
            operation.kind,
            host = row.host,
            "an operation is overdue; it goes on"
        );
    }
    let Some(host) = row.host.clone().map(HostId) else {
        O::without_host(round, operation).await?;
        return Ok(Next::Wait);
    };
    let next = round.now.after(RESEND);
    let store = &round.driver.store;
    let waiting = journal::go_on(store, operation, &COMMAND, operation.attempts.0, next).await?;
    crash_point!(O::NAME, "waiting");
    Ok(if waiting { Next::Tell(host) } else { Next::Wait })
}

/// An operation's time is over: it ends with what is the matter with its host.
pub(crate) async fn overdue_on<O: Driven>(
    round: &Round,
    operation: &operation::Model,
    host: Option<HostId>,
) -> Result<()> {
    let standing = match &host {
        Some(host) => standing(&round.driver, host, round.now).await?,
        None => None,
    };
    let failure = overdue::<O>(host.as_ref(), standing.as_deref());
    give_up::<O>(&round.driver, operation.clone(), failure).await
}

/// Sends the operation's command.
pub(crate) async fn tell<O: Driven>(
    round: &Round,
    operation: &operation::Model,
    host: &HostId,
) -> Result<()> {
    let row = round.instance(operation)?;
    let action = O::action(round, operation, row, host).await?;
    let policy = match &action {
        Action::Run { policy, .. } => Some(policy.clone()),
        _ => None,
    };
    if !hand_over(&round.driver, operation, host, action, round.now).await? {
        return Ok(());
    }
    if let Some(policy) = policy {
        round.driver.told.note(host, &policy);
    }
    crash_point!(O::NAME, "sent");
    Ok(())
}

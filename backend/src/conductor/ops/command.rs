//! The step `command`: the desired state, sent to the host. The operation then waits in the journal and holds
//! no task; the host's report ends it, and as long as none comes the command is sent again.

use std::time::Duration;

use cumulet_domain::{
    Error, Result, crash_point,
    id::{HostId, InstanceId, OperationId},
    message::{Action, Command},
    time::Timestamp,
};

use super::{Cause, Round, give_up, unwind::standing};
use crate::{
    conductor::{
        journal::{self, OperationKind, Step},
        release,
    },
    entity::{instance, operation},
};

/// How long until a command is sent again.
pub(super) const RESEND: Duration = Duration::from_secs(15);

/// How long a command that could not be handed over waits.
const RETRY: Duration = Duration::from_secs(1);

/// The step: the operation's next look is set, then the command is to go out to the host that is answered.
pub(super) async fn run(
    round: &Round<'_>,
    operation: &operation::Model,
    kind: OperationKind,
) -> Result<Option<HostId>> {
    let row = round.instance(operation)?;
    if row.generation != operation.generation {
        return Ok(None); // superseded between the lease and the look at the instance
    }
    let overdue = round.is_overdue(operation);
    if overdue && kind != OperationKind::Terminate {
        overdue_on(round, operation, kind, row.host.clone().map(HostId)).await?;
        return Ok(None);
    }
    if overdue {
        tracing::error!(
            operation.instance,
            host = row.host,
            "a terminate is overdue; it goes on"
        );
    }
    let Some(host) = row.host.clone().map(HostId) else {
        without_host(round, operation, kind).await?;
        return Ok(None);
    };
    let next = round.now.after(RESEND);
    let store = &round.conductor.store;
    let waiting = journal::go_on(store, operation, Step::Command, operation.attempts, next).await?;
    crash_point!(kind.name(), "waiting");
    Ok(waiting.then_some(host))
}

/// An operation's time is over: it ends with what is the matter with its host.
async fn overdue_on(
    round: &Round<'_>,
    operation: &operation::Model,
    kind: OperationKind,
    host: Option<HostId>,
) -> Result<()> {
    let standing = match &host {
        Some(host) => standing(round.conductor, host, round.now).await?,
        None => None,
    };
    let cause = Cause::overdue(kind, host.as_ref(), standing.as_deref());
    give_up(round.conductor, operation, kind, cause).await
}

/// An instance that no host has: a terminate is done; anything else has come too late.
async fn without_host(round: &Round<'_>, operation: &operation::Model, kind: OperationKind) -> Result<()> {
    if kind != OperationKind::Terminate {
        return overdue_on(round, operation, kind, None).await;
    }
    let (operation, now) = (operation.clone(), round.now);
    round
        .conductor
        .store
        .write(move |txn| Box::pin(async move { release::terminated(txn, &operation, now).await }))
        .await
}

/// Sends the operation's command. When it can't be handed over the operation is looked at again soon.
pub(super) async fn send(
    round: &Round<'_>,
    operation: &operation::Model,
    kind: OperationKind,
    host: &HostId,
) -> Result<()> {
    let row = round.instance(operation)?;
    let command = Command {
        operation: Some(OperationId::from_db(operation.id)),
        deadline: Timestamp(operation.deadline).max(round.now.after(RESEND)),
        action: action(round, operation, kind, row, host).await?,
    };
    let Err(error) = round.conductor.bus.send(host, command).await else {
        crash_point!(kind.name(), "sent");
        return Ok(());
    };
    tracing::warn!(operation.instance, %host, %error, "a command could not be handed over");
    let (store, next) = (&round.conductor.store, round.now.after(RETRY));
    let step = if operation.step == Step::Clear.name() {
        Step::Clear
    } else {
        Step::Command
    };
    journal::go_on(store, operation, step, operation.attempts, next)
        .await
        .map(drop)
}

async fn action(
    round: &Round<'_>,
    operation: &operation::Model,
    kind: OperationKind,
    row: &instance::Model,
    host: &HostId,
) -> Result<Action> {
    let instance = InstanceId::from_db(row.id);
    let generation = u64::try_from(operation.generation).unwrap_or(0);
    if operation.step == Step::Clear.name() {
        return Ok(Action::Destroy { instance, generation });
    }
    Ok(match kind {
        OperationKind::Launch | OperationKind::Start => {
            let spec = round.specs.get(row.id).ok_or_else(|| {
                Error::Internal(format!(
                    "{instance} has no interface, image or subnet to launch with"
                ))
            })?;
            let policy = round
                .policies
                .get(round.conductor.store.read(), host, row.vpc)
                .await?;
            Action::Run {
                spec: Box::new(spec),
                policy,
            }
        }
        OperationKind::Stop => Action::Stop {
            instance,
            generation,
            force: journal::state(operation)?.force,
        },
        OperationKind::Reboot => Action::Reboot { instance, generation },
        OperationKind::Terminate => Action::Destroy { instance, generation },
    })
}

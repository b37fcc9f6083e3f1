//! Start, stop, reboot and terminate: of all the instances that are named or of none. A call changes rows and
//! queues operations, and answers the states; the conductor does the rest.

use cumulet_core::RequestContext;
use cumulet_domain::{
    Error, Result,
    account::Principal,
    calendar::Civil,
    error::Effect,
    id::{InstanceId, OperationId, marker},
    instance::{Event, Intent, State, StateReason, transition},
    rng::SharedRng,
    time::Timestamp,
};
use cumulet_journal::{NewOperation, Operation, active, enqueue};
use cumulet_operations::{
    CreateImage, Reboot, RunAgain, Start, Stop, StopState, Terminate, TerminateState,
    instance::{subject, target},
};
use cumulet_store::{
    Invalidates,
    authority::{Grant, Permission},
    entity::{columns::Named, instance},
    failed, resource,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, sea_query::Expr};

use crate::{boxed, instances::launch::id_of};

/// What a call changed of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Which instance.
    pub instance: InstanceId,
    /// Its state before.
    pub previous: State,
    /// Its state now.
    pub current: State,
}

/// What a caller asks of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Start,
    Stop { force: bool },
    Reboot,
    Terminate,
}

impl Ask {
    /// The name of the operation that does it.
    const fn name(self) -> &'static str {
        match self {
            Ask::Start => Start::NAME,
            Ask::Stop { .. } => Stop::NAME,
            Ask::Reboot => Reboot::NAME,
            Ask::Terminate => Terminate::NAME,
        }
    }

    /// What the caller needs for it.
    const fn permission(self) -> Permission {
        match self {
            Ask::Start => Permission::START_INSTANCES,
            Ask::Stop { .. } => Permission::STOP_INSTANCES,
            Ask::Reboot => Permission::REBOOT_INSTANCES,
            Ask::Terminate => Permission::TERMINATE_INSTANCES,
        }
    }

    /// The operation that does it, for an instance's row as it is now.
    fn operation(
        self,
        id: OperationId,
        row: &instance::Model,
        reason: Option<StateReason>,
        now: Timestamp,
    ) -> Result<NewOperation> {
        let on = target(row, row.generation.0);
        match self {
            Ask::Start => NewOperation::of::<Start>(id, on, &Default::default(), now),
            Ask::Stop { force } => NewOperation::of::<Stop>(id, on, &StopState { force, reason }, now),
            Ask::Reboot => NewOperation::of::<Reboot>(id, on, &Default::default(), now),
            Ask::Terminate => NewOperation::of::<Terminate>(id, on, &TerminateState::because(reason), now),
        }
    }

    const fn intent(self) -> Intent {
        match self {
            Ask::Start | Ask::Reboot => Intent::Running,
            Ask::Stop { .. } => Intent::Stopped,
            Ask::Terminate => Intent::Terminated,
        }
    }

    /// What EC2 shows as the reason of what a user asked for.
    fn reason(self) -> Option<StateReason> {
        let reason = || StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
        matches!(self, Ask::Stop { .. } | Ask::Terminate).then(reason)
    }

    const fn effect(self) -> Effect {
        match self {
            Ask::Start => Effect::Started,
            Ask::Stop { .. } => Effect::Stopped,
            Ask::Reboot => Effect::Rebooted,
            Ask::Terminate => Effect::Terminated,
        }
    }
}

/// The attributes that protect an instance, and what each one keeps from it: whatever call would bring it.
/// What the guest does to itself is not kept from it, as on EC2: its shutdown behaviour says what follows.
const PROTECTIONS: [Protection; 2] = [
    Protection {
        attribute: "disableApiTermination",
        is_on: |row| row.disable_api_termination.0,
        from: &[Effect::Terminated],
    },
    // An instance that is terminated is stopped for good.
    Protection {
        attribute: "disableApiStop",
        is_on: |row| row.disable_api_stop.0,
        from: &[Effect::Stopped, Effect::Terminated],
    },
];

struct Protection {
    attribute: &'static str,
    is_on: fn(&instance::Model) -> bool,
    from: &'static [Effect],
}

/// Refuses what an attribute of the instance keeps from it.
fn check_protected(row: &instance::Model, effect: Effect) -> Result<()> {
    let guards = |protection: &&Protection| protection.from.contains(&effect) && (protection.is_on)(row);
    match PROTECTIONS.iter().find(guards) {
        Some(protection) => Err(Error::MayNotBe {
            id: id_of(row).to_string(),
            effect,
            attribute: protection.attribute,
        }),
        None => Ok(()),
    }
}

/// Starts instances; those that run already stay as they are.
///
/// # Errors
/// `NoInstances`, `NotFound`, `CannotBe`; then nothing has changed.
#[boxed]
pub async fn start(cx: &RequestContext, who: &Principal, ids: &[InstanceId]) -> Result<Vec<StateChange>> {
    ask(cx, who, ids, Ask::Start).await
}

/// Stops instances; those that are stopped already stay so.
///
/// # Errors
/// `NoInstances`, `NotFound`, `CannotBe`, `MayNotBe`; then nothing has changed.
#[boxed]
pub async fn stop(
    cx: &RequestContext,
    who: &Principal,
    ids: &[InstanceId],
    force: bool,
) -> Result<Vec<StateChange>> {
    ask(cx, who, ids, Ask::Stop { force }).await
}

/// Reboots running instances.
///
/// # Errors
/// `NoInstances`, `NotFound`, `CannotBe`; then nothing has changed.
#[boxed]
pub async fn reboot(cx: &RequestContext, who: &Principal, ids: &[InstanceId]) -> Result<()> {
    ask(cx, who, ids, Ask::Reboot).await.map(drop)
}

/// Ends instances; those that have ended stay so.
///
/// # Errors
/// `NoInstances`, `NotFound`, `MayNotBe`; then nothing has changed.
#[boxed]
pub async fn terminate(cx: &RequestContext, who: &Principal, ids: &[InstanceId]) -> Result<Vec<StateChange>> {
    ask(cx, who, ids, Ask::Terminate).await
}

async fn ask(cx: &RequestContext, who: &Principal, ids: &[InstanceId], ask: Ask) -> Result<Vec<StateChange>> {
    let grant = cx.authorise(who, ask.permission())?;
    if ids.is_empty() {
        return Err(Error::NoInstances);
    }
    let (now, rng, ids) = (cx.now(), cx.rng.clone(), ids.to_vec());
    let account = Invalidates::Account(who.account);
    let asked = cx.ask(ask.name(), &cx.store, account, move |txn| {
        Box::pin(async move { change_all(txn, &rng, &grant, &ids, ask, now).await })
    });
    asked.await
}

async fn change_all(
    txn: &DatabaseTransaction,
    rng: &SharedRng,
    grant: &Grant,
    ids: &[InstanceId],
    ask: Ask,
    now: Timestamp,
) -> Result<Vec<StateChange>> {
    let rows = resource::find_all_locked::<instance::Entity>(txn, grant, ids).await?;
    let steps: Vec<PowerChange> = rows
        .iter()
        .map(|row| PowerChange::of(row, ask))
        .collect::<Result<_>>()?;
    for (row, step) in rows.iter().zip(&steps) {
        if step.changes && !(ask == Ask::Reboot && starts_over(txn, row).await?) {
            apply(txn, rng, row, ask, step.current, now).await?;
        }
    }
    Ok(rows
        .iter()
        .zip(steps)
        .map(|(row, step)| StateChange {
            instance: id_of(row),
            previous: step.previous,
            current: step.current,
        })
        .collect())
}

/// Whether the guest starts over anyway, since an image is made of it: another reboot would keep it from that.
async fn starts_over(txn: &DatabaseTransaction, row: &instance::Model) -> Result<bool> {
    let open = active(txn, subject(row.id.to_db())).await?;
    Ok(open.is_some_and(|open| [CreateImage::NAME, RunAgain::NAME].contains(&open.kind.as_str())))
}

/// What a call means for one instance.
struct PowerChange {
    previous: State,
    current: State,
    /// Not where it is already as wanted.
    changes: bool,
}

impl PowerChange {
    fn of(row: &instance::Model, ask: Ask) -> Result<PowerChange> {
        let previous = row.state.0;
        let cannot = || Error::CannotBe {
            id: id_of(row).to_string(),
            effect: ask.effect(),
            state: row.state.0.to_string(),
        };
        let event = match ask {
            Ask::Start => Event::StartAsked,
            Ask::Stop { .. } => Event::StopAsked,
            Ask::Terminate => Event::TerminateAsked,
            Ask::Reboot if previous == State::Running => {
                return Ok(PowerChange {
                    previous,
                    current: previous,
                    changes: true,
                });
            }
            Ask::Reboot => return Err(cannot()),
        };
        let current = transition(previous, event).map_err(|_| cannot())?;
        if !matches!(previous, State::ShuttingDown | State::Terminated) {
            check_protected(row, ask.effect())?;
        }
        let again = ask == Ask::Stop { force: true } && previous == State::Stopping;
        Ok(PowerChange {
            previous,
            current,
            changes: current != previous || again,
        })
    }
}

/// Changes one row and queues its operation. The generation that was read guards the change.
async fn apply(
    txn: &DatabaseTransaction,
    rng: &SharedRng,
    row: &instance::Model,
    ask: Ask,
    state: State,
    now: Timestamp,
) -> Result<()> {
    use instance::Column as C;
    let new = instance::Model {
        state: Named(state),
        intent: Named(ask.intent()),
        generation: row.generation.next(),
        ..row.clone()
    };
    let mut update = instance::Entity::update_many()
        .col_expr(C::State, Expr::value(new.state))
        .col_expr(C::Intent, Expr::value(new.intent))
        .col_expr(C::Generation, Expr::value(new.generation))
        .filter(C::Id.eq(row.id))
        .filter(C::Generation.eq(row.generation));
    let reason = ask.reason();
    if ask != Ask::Reboot {
        let transition = reason.is_some().then(|| user_initiated(now));
        update = update
            .col_expr(C::TransitionReason, Expr::value(transition))
            .col_expr(
                C::ReasonCode,
                Expr::value(reason.as_ref().map(|reason| reason.code.clone())),
            )
            .col_expr(
                C::ReasonMessage,
                Expr::value(reason.as_ref().map(|reason| reason.message.clone())),
            );
    }
    if ask == Ask::Start {
        update = update.col_expr(C::LaunchedAt, Expr::value(now.0));
    }
    if update.exec(txn).await.map_err(failed)?.rows_affected != 1 {
        return Err(Error::Unavailable(format!(
            "{} was changed by another request",
            id_of(row)
        )));
    }
    let operation = ask.operation(rng.id::<marker::Operation>(), &new, reason, now)?;
    enqueue(txn, operation).await.map(drop)
}

/// What EC2 shows as the reason of the transition.
fn user_initiated(now: Timestamp) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = now.civil();
    format!("User initiated ({year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} GMT)")
}

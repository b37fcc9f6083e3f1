//! A change of what an instance has of volumes, carried out whatever the instance does meanwhile: the step looks at
//! the instance, and does what its state needs.
//!
//! - It runs: its generation is raised, once for each change of an attachment, and its host is told the whole
//!   specification, again and again until it answers. Being told that never starts a guest.
//! - It is stopped: there is nothing to tell. The next start tells the whole specification anyway.
//! - Something is under way for it: that ends first, so that no report of it is void.

use std::time::Duration;

use cumulet_domain::{
    Error, Result, crash_point,
    id::{HostId, InstanceId},
    instance::State,
    message::{Action, Change, Power},
    time::Timestamp,
    volume::{AttachmentState, VolumeState},
};
use cumulet_journal::{self as journal, End, Failure, How, Next, Operation};
use cumulet_store::{
    attachments,
    entity::{
        columns::{Amount, Key},
        instance as entity, operation, volume, volume_attachment,
    },
    failed, instances, rows,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait, QueryFilter, sea_query::Expr,
};

use crate::{
    Driver,
    changes::changed,
    driver::{Heard, OfInstance},
    instance::{instance_subject, subject as instance},
    specs::Specs,
    steps::{
        COMMAND,
        hand_over::{RESEND, hand_over},
    },
    volume::{current, volume_of},
    volume_round::VolumeRound,
};

/// When an instance is looked at again for which something is under way.
const AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) trait Plug: Operation<Cx = Driver, Batch = VolumeRound> {
    /// What the host is told that it is for.
    const WHAT: Change;
    /// The states of an attachment that it works on.
    const STATES: &'static [AttachmentState];
    /// Whether it never fails: after its deadline it goes on.
    const IS_ENDLESS: bool;

    /// Whether an operation of the kind is one of those that go on.
    fn is_endless(_: &operation::Model) -> bool {
        Self::IS_ENDLESS
    }

    /// The generation of the instance from which on its host has been told of it.
    fn told(
        _: &impl ConnectionTrait,
        _: &operation::Model,
        attached: &volume_attachment::Model,
    ) -> impl Future<Output = Result<Option<Amount>>> + Send {
        std::future::ready(Ok(attached.generation))
    }

    /// From this generation on its host is told of it; `None`: there is nobody to be told.
    fn tells(
        txn: &DatabaseTransaction,
        _: &operation::Model,
        attached: &volume_attachment::Model,
        generation: Option<Amount>,
    ) -> impl Future<Output = Result<()>> + Send {
        attachments::set_state(txn, attached, attached.state.0, generation)
    }

    /// What there has to be on the host before it is told.
    fn prepared(
        txn: &DatabaseTransaction,
        operation: &operation::Model,
        host: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Prepared>> + Send;

    /// The host could not do it, and has not a guest that is off.
    fn failed(
        cx: &Driver,
        operation: operation::Model,
        attached: volume_attachment::Model,
        heard: OfInstance,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// The volume and the attachment that the end of an operation changes: none where another takes its place, or where
/// it does not speak for them any more.
pub(crate) async fn ending<O: Plug>(
    txn: &DatabaseTransaction,
    operation: &operation::Model,
    end: &End,
) -> Result<Option<(volume::Model, volume_attachment::Model)>> {
    if end.how == How::Superseded {
        return Ok(None);
    }
    let Some(volume) = current(txn, operation).await? else {
        return Ok(None);
    };
    let attached = attachments::of_volume(txn, volume.id.to_db()).await?;
    let theirs = attached.filter(|row| O::STATES.contains(&row.state.0));
    Ok(theirs.map(|attached| (volume, attached)))
}

/// No instance has the volume any more.
pub(crate) async fn free(
    txn: &DatabaseTransaction,
    volume: &volume::Model,
    attached: &volume_attachment::Model,
) -> Result<()> {
    attachments::remove(txn, attached).await?;
    let freed = attachments::moved(txn, volume, VolumeState::Available, None);
    freed.await.map(drop)
}

/// Whether a host has what there has to be before it is told.
pub(crate) enum Prepared {
    /// It has.
    Ready,
    /// It may have it later.
    Later,
    /// It can't have it.
    Refused(Failure),
}

/// What the look at an instance comes to.
enum Decision {
    /// All is as it should be.
    Over,
    /// It can't be.
    Refused(Failure),
    /// Nothing for now.
    Later,
    /// This host is to be told.
    Tell(HostId),
}

/// The step.
pub(crate) async fn run<O: Plug>(round: &VolumeRound, operation: &operation::Model) -> Result<Next> {
    let cx = &round.driver;
    let Some(volume) = round.volume(operation) else {
        // Another one speaks for the volume; it has taken this one's place, or is about to.
        return forgotten::<O>(cx, operation).await;
    };
    let Some(attached) = round.attachment(operation) else {
        return forgotten::<O>(cx, operation).await;
    };
    if round.is_overdue(operation) {
        if !O::is_endless(operation) {
            return give_up::<O>(cx, operation, late::<O>()).await;
        }
        tracing::warn!(volume = %volume.id.0, operation.kind, "an operation is overdue; it goes on");
    }
    match decide::<O>(round, operation, attached).await? {
        Decision::Over => {
            journal::end::<O>(cx, operation.clone(), How::Done).await?;
            Ok(Next::Wait)
        }
        Decision::Refused(failure) => give_up::<O>(cx, operation, failure).await,
        Decision::Later => Ok(Next::Wait),
        Decision::Tell(host) => {
            crash_point!(O::NAME, "waiting");
            Ok(Next::Tell(host))
        }
    }
}

/// The volume is not attached any more, since its instance has ended: there is nothing to do.
async fn forgotten<O: Plug>(cx: &Driver, operation: &operation::Model) -> Result<Next> {
    let end = journal::end::<O>(cx, operation.clone(), How::Done);
    end.await.map(|_| Next::Wait)
}

async fn give_up<O: Plug>(cx: &Driver, operation: &operation::Model, failure: Failure) -> Result<Next> {
    tracing::warn!(
        volume = volume_of(operation),
        operation.kind,
        reason = failure.message,
        "an operation has failed"
    );
    let end = journal::end::<O>(cx, operation.clone(), How::Failed(failure));
    end.await.map(|_| Next::Wait)
}

fn late<O: Plug>() -> Failure {
    let seconds = O::DEADLINE.as_secs();
    internal(format!("the {} did not end within {seconds} s", O::NAME))
}

/// A failure in words for the log.
pub(crate) fn internal(text: String) -> Failure {
    Failure {
        code: "Server.InternalError".into(),
        message: format!("Server.InternalError: {text}"),
    }
}

/// Looks at the instance under its lock, and writes what follows.
async fn decide<O: Plug>(
    round: &VolumeRound,
    operation: &operation::Model,
    attached: &volume_attachment::Model,
) -> Result<Decision> {
    let (operation, now, id) = (operation.clone(), round.now, attached.instance.to_db());
    let write = round.driver.store.write(move |txn| {
        Box::pin(async move {
            instances::lock(txn, &[id]).await?;
            // Whoever has taken its place has done so under this lock.
            if !journal::proceed(txn, &operation, &COMMAND, operation.attempts.0, now.after(RESEND)).await? {
                return Ok(Decision::Later);
            }
            let attached = attachments::of_volume(txn, volume_of(&operation)).await?;
            let Some(attached) = attached.filter(|row| row.instance.to_db() == id) else {
                return Ok(Decision::Over);
            };
            if !O::STATES.contains(&attached.state.0) {
                return Ok(Decision::Later);
            }
            decided::<O>(txn, &operation, &attached, now).await
        })
    });
    write.await
}

async fn decided<O: Plug>(
    txn: &DatabaseTransaction,
    operation: &operation::Model,
    attached: &volume_attachment::Model,
    now: Timestamp,
) -> Result<Decision> {
    let id = attached.instance.to_db();
    let row = instances_row(txn, id).await?;
    let state = row.state.0;
    let is_busy = journal::active(txn, instance(id)).await?.is_some();
    let (true, Some(host)) = (
        !is_busy && matches!(state, State::Running | State::Stopped),
        row.host,
    ) else {
        return later(txn, operation, now).await;
    };
    match O::prepared(txn, operation, &host, now).await? {
        Prepared::Ready => {}
        Prepared::Later => return later(txn, operation, now).await,
        Prepared::Refused(failure) => return Ok(Decision::Refused(failure)),
    }
    if state == State::Stopped {
        // Whatever its host was told of it, a guest is not there any more.
        O::tells(txn, operation, attached, None).await?;
        return Ok(Decision::Over);
    }
    if O::told(txn, operation, attached).await?.is_none() {
        raise(txn, id, row.generation.to_db()).await?;
        O::tells(txn, operation, attached, Some(row.generation.next())).await?;
    }
    Ok(Decision::Tell(HostId(host)))
}

/// It is looked again.
async fn later(txn: &DatabaseTransaction, operation: &operation::Model, now: Timestamp) -> Result<Decision> {
    journal::proceed(txn, operation, &COMMAND, operation.attempts.0, now.after(AGAIN)).await?;
    Ok(Decision::Later)
}

async fn instances_row(conn: &impl ConnectionTrait, id: i64) -> Result<entity::Model> {
    let row = rows::one(entity::Entity::find_by_id(Key::from_db(id)), conn).await?;
    row.ok_or_else(|| {
        Error::Internal(format!(
            "a volume is attached to {}, which is not there",
            InstanceId::from_db(id)
        ))
    })
}

/// What a host was told before is void from now on.
async fn raise(txn: &DatabaseTransaction, id: i64, generation: i64) -> Result<()> {
    use entity::Column as C;
    let update = entity::Entity::update_many()
        .col_expr(C::Generation, Expr::col(C::Generation).add(1))
        .filter(C::Id.eq(id))
        .filter(C::Generation.eq(generation));
    match update.exec(txn).await.map_err(failed)?.rows_affected {
        1 => Ok(()),
        _ => Err(Error::Unavailable(
            "the instance was changed by another request".into(),
        )),
    }
}

/// Tells the host what its instance is to have, as it is now.
pub(crate) async fn tell<O: Plug>(
    round: &VolumeRound,
    operation: &operation::Model,
    host: &HostId,
) -> Result<()> {
    let (cx, Some(attached)) = (&round.driver, round.attachment(operation)) else {
        return Ok(());
    };
    let conn = cx.store.read();
    let row = instances_row(conn, attached.instance.to_db()).await?;
    // Looked at after the row: what has begun since is of a higher generation than that.
    let is_busy = journal::active(conn, instance(row.id.to_db())).await?.is_some();
    if is_busy || row.host.as_ref() != Some(&host.0) {
        return Ok(());
    }
    let Some(spec) = Specs::load(conn, &[&row], cx).await?.get(row.id.to_db()) else {
        return Ok(()); // the log says why
    };
    let Some(vpc) = spec.primary().map(|nic| nic.vpc) else {
        return Ok(()); // none is specified without an interface
    };
    let action = Action::Change {
        spec: Box::new(spec),
        policy: round.policies.get(conn, host, vpc.to_db()).await?,
        what: O::WHAT,
    };
    if hand_over(cx, operation, host, action, round.now).await? {
        crash_point!(O::NAME, "sent");
    }
    Ok(())
}

/// The host has answered.
pub(crate) async fn heard<O: Plug>(cx: &Driver, operation: operation::Model, heard: Heard) -> Result<()> {
    let Heard::Instance(of) = heard else {
        return Ok(());
    };
    if operation.subject() == instance_subject(of.row.id.to_db()) {
        return Ok(());
    }
    let attached = attachments::of_volume(cx.store.read(), volume_of(&operation)).await?;
    let Some(attached) = attached.filter(|row| row.instance == of.row.id && O::STATES.contains(&row.state.0))
    else {
        return Ok(());
    };
    // An answer to what it was told before this change says nothing of it.
    let answered = of.outcome.report.generation;
    let told = O::told(cx.store.read(), &operation, &attached).await?;
    if told.is_none_or(|told| answered < told.0) {
        return Ok(());
    }
    let (outcome, volume) = (&of.outcome, attached.volume.0);
    let others_alone = !outcome.kept.is_empty() && !outcome.kept.contains(&volume);
    if outcome.failure.is_none() || others_alone {
        return journal::end::<O>(cx, operation, How::Done).await.map(drop);
    }
    if outcome.report.power == Power::On {
        return O::failed(cx, operation, attached, *of).await;
    }
    // It has gone off, and that is what is to be dealt with: afterwards it is looked at again.
    let (host, at, seen) = (of.host, of.at, of.outcome.report);
    again::<O>(cx, &operation, operation.attempts.0, AGAIN).await?;
    changed(cx, host, at, seen).await
}

/// It is looked at again after a while.
pub(crate) async fn again<O: Plug>(
    cx: &Driver,
    operation: &operation::Model,
    attempts: u32,
    after: Duration,
) -> Result<()> {
    let next = cx.clock.now().after(after);
    let again = journal::go_on(&cx.store, operation, &COMMAND, attempts, next);
    again.await.map(drop)
}

//! An operation on an instance that its host carries out: it is commanded again and again until the host has
//! answered, and has failed for good after some failures or its deadline.

use cumulet_domain::{
    Result,
    id::HostId,
    message::{Action, InstanceReport, Power},
};
use cumulet_journal::{self as journal, How, Operation};
use cumulet_store::entity::{instance, operation};

use crate::{
    Driver,
    driver::{Heard, OfInstance},
    instance::instance_of,
    steps::{
        COMMAND, command,
        failure::{late, on_host},
        give_up,
        round::Round,
    },
};

/// How often a command may fail before the operation does.
const ATTEMPTS: u32 = 5;

/// See the module.
pub(crate) trait Driven: Operation<Cx = Driver, Batch = Round> {
    /// Whether it never fails: after its deadline it goes on and is an alarm.
    const IS_ENDLESS: bool = false;

    /// What the host is told.
    fn action(
        round: &Round,
        operation: &operation::Model,
        row: &instance::Model,
        host: &HostId,
    ) -> impl Future<Output = Result<Action>> + Send;

    /// Whether that is done where the guest is so.
    fn is_reached(power: Power) -> bool;

    /// The host can't do it.
    fn failed(
        cx: &Driver,
        operation: operation::Model,
        host: &HostId,
        failure: String,
    ) -> impl Future<Output = Result<()>> + Send {
        give_up::<Self>(cx, operation, on_host(host, failure))
    }

    /// No host has the instance: it has come too late.
    fn without_host(round: &Round, operation: &operation::Model) -> impl Future<Output = Result<()>> + Send {
        command::overdue_on::<Self>(round, operation, None)
    }
}

/// The host has answered.
pub(crate) async fn heard<O: Driven>(
    driver: &Driver,
    operation: operation::Model,
    heard: Heard,
) -> Result<()> {
    let Heard::Instance(of) = heard else {
        return Ok(());
    };
    let OfInstance { host, outcome, .. } = *of;
    match outcome.failure {
        Some(failure) => failed::<O>(driver, &host, operation, failure, outcome.permanent).await,
        None => succeeded::<O>(driver, &host, operation, outcome.report).await,
    }
}

async fn succeeded<O: Driven>(
    driver: &Driver,
    host: &HostId,
    operation: operation::Model,
    report: InstanceReport,
) -> Result<()> {
    if O::is_reached(report.power) {
        return journal::end::<O>(driver, operation, How::Done).await.map(drop);
    }
    let is = match report.power {
        Power::On => "runs",
        Power::Off => "is off",
        Power::Absent => "is not there",
    };
    let text = format!("the guest {is} after the {}", O::NAME);
    failed::<O>(driver, host, operation, text, false).await
}

async fn failed<O: Driven>(
    driver: &Driver,
    host: &HostId,
    operation: operation::Model,
    failure: String,
    permanent: bool,
) -> Result<()> {
    let attempts = operation.attempts.0 + 1;
    tracing::warn!(
        operation.instance = instance_of(&operation),
        operation.kind,
        attempts,
        failure,
        "a command has failed"
    );
    if !O::IS_ENDLESS && (permanent || attempts >= ATTEMPTS) {
        return O::failed(driver, operation, host, failure).await;
    }
    let now = driver.clock.now();
    let (next, by) = (now.after(backoff(attempts)), driver.deadlines.by(now));
    if !O::IS_ENDLESS && by.after(backoff(attempts)).0 >= operation.deadline {
        // The next look would only find that it is too late, and not know why.
        let failure = on_host(host, format_args!("{failure}; {}", late::<O>()));
        return give_up::<O>(driver, operation, failure).await;
    }
    let again = journal::go_on(&driver.store, &operation, &COMMAND, attempts, next);
    again.await.map(drop)
}

/// How long after so many failures it is tried again.
pub(crate) fn backoff(attempts: u32) -> std::time::Duration {
    std::time::Duration::from_secs(1 << attempts.min(5))
}

//! Why an operation on an instance failed for good, in the words that its user reads.

use std::fmt::Display;

use cumulet_domain::{Result, id::HostId, instance::StateReason, time::Timestamp};
use cumulet_journal::{Failure, Operation};
use cumulet_scheduler::SILENCE;
use cumulet_store::{entity::host, rows};
use sea_orm::EntityTrait;

use crate::{Driver, steps::demand::FailedHost};

fn because(code: &str, text: impl Display) -> Failure {
    let StateReason { code, message } = StateReason::new(code, text);
    Failure { code, message }
}

/// No host can take the instance.
pub(crate) fn no_capacity(text: &str) -> Failure {
    because("Server.InsufficientInstanceCapacity", text)
}

/// It failed.
fn failure(text: impl Display) -> Failure {
    because("Server.InternalError", text)
}

/// The host could not do it.
pub(crate) fn on_host(host: &HostId, text: impl Display) -> Failure {
    failure(format_args!("host {host}: {text}"))
}

/// It was tried on these hosts, and that is all there is.
pub(crate) fn tried(attempts: &[FailedHost], then: impl Display) -> Failure {
    let said: Vec<String> = attempts
        .iter()
        .map(|attempt| format!("host {}: {}", attempt.host, attempt.failure))
        .collect();
    failure(format_args!("{}; {then}", said.join("; ")))
}

/// It took too long. `standing` is what is the matter with the host, where that is known.
pub(crate) fn overdue<O: Operation>(host: Option<&HostId>, standing: Option<&str>) -> Failure {
    let late = late::<O>();
    match (host, standing) {
        (Some(host), Some(standing)) => on_host(host, format_args!("{standing}; {late}")),
        (Some(host), None) => on_host(host, late),
        (None, _) => failure(format_args!("no host was found in time; {late}")),
    }
}

/// That an operation was not done in time, in words.
pub(crate) fn late<O: Operation>() -> String {
    let seconds = O::DEADLINE.as_secs();
    format!("the {} did not end within {seconds} s", O::NAME)
}

/// What is the matter with a host: that it is silent, or why it is not ready.
pub(crate) async fn standing(driver: &Driver, host: &HostId, now: Timestamp) -> Result<Option<String>> {
    let row = host::Entity::find_by_id(host.0.as_str());
    let row = rows::one(row, driver.store.read()).await?;
    Ok(row.and_then(|row| match now.since(Timestamp(row.last_seen)) {
        silent if silent >= SILENCE => Some(format!("it has not been heard of for {} s", silent.as_secs())),
        _ => row.not_ready_reason,
    }))
}
